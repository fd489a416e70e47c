// Benchmark of all kernels but the experts' on this GPU, at the sizes of configs/smoe-1.5b.yaml
// with 32,768 tokens per micro-batch: the time of each kernel, and its throughput relative to a
// device copy or a large cuBLAS GEMM measured in the same run. Random data; means over many calls
// after a warm-up. usage: smoe_bench_dense [name of a kernel]
#include <cstdio>
#include <functional>
#include <string>
#include <vector>

#include "core/device.h"
#include "core/random.h"
#include "core/tensor.h"
#include "kernels/attention.h"
#include "kernels/cross_entropy.h"
#include "kernels/elementwise.h"
#include "kernels/embedding.h"
#include "kernels/engines.h"
#include "kernels/gemm.h"
#include "kernels/norm.h"
#include "kernels/optimizer.h"
#include "kernels/rotary.h"
#include "tests/support/tensors.h"

using namespace smoe;
using namespace smoe::test;

namespace {

constexpr std::int64_t kTokens = 32768, kWidth = 1024, kVocab = 32000, kChunk = 4096;
constexpr kernels::AttentionShape kHeads{16, 2048, 8, 2, 128};
constexpr std::int64_t kParameters = 1517000704;

// Uniform in [-1, 1): zeros or constants would run faster than real data.
Tensor random(const Shape& shape, DType dtype) {
  const Tensor x = Tensor::empty(shape, dtype), minus_one = Tensor::empty(shape, dtype);
  kernels::fill(launch(), {x.data(), dtype, x.numel(), 1});
  kernels::fill(launch(), {minus_one.data(), dtype, x.numel(), -1});
  kernels::jitter(launch(), {x.data(), x.data(), dtype, x.numel(), 1, 1, 2, 3});
  kernels::add(launch(), {x.data(), minus_one.data(), x.data(), dtype, x.numel()});
  return x;
}

Tensor random_ids(std::int64_t n) {
  RandomStream stream(1, 2);
  std::vector<std::int32_t> ids;
  for (std::int64_t i = 0; i < n; ++i) {
    const auto most = stream.below(kVocab) + 1;  // low ids are frequent, as in text
    ids.push_back(static_cast<std::int32_t>(stream.below(stream.below(most) + 1)));
  }
  return Tensor::from(ids, {n});
}

double milliseconds_of(const std::function<void()>& run) {
  for (int i = 0; i < 3; ++i) run();
  const Event start(current_stream());
  run();
  const Event once(current_stream());
  const int times = std::max(5, std::min(200, static_cast<int>(200 / once.ms_since(start))));
  const Event begin(current_stream());
  for (int i = 0; i < times; ++i) run();
  return Event(current_stream()).ms_since(begin) / times;
}

struct Bench {
  std::string only;
  double copy_rate = 0;  // bytes/s
  double gemm_rate = 0;  // FLOP/s

  bool wants(const std::string& name) const { return only.empty() || name == only; }

  void measure_bandwidth(const std::string& name, double bytes, const std::function<void()>& run) {
    if (!wants(name)) return;
    const double ms = milliseconds_of(run), rate = bytes / ms * 1e3;
    std::printf("%-28s %9.3f ms  %6.2f TB/s    %5.1f %% of copy\n", name.c_str(), ms, rate * 1e-12,
                100 * rate / copy_rate);
  }
  void measure_gemm(const std::string& name, double flops, const std::function<void()>& run) {
    if (!wants(name)) return;
    const double ms = milliseconds_of(run), rate = flops / ms * 1e3;
    std::printf("%-28s %9.3f ms  %6.0f TFLOP/s %5.1f %% of 8192^3\n", name.c_str(), ms,
                rate * 1e-12, 100 * rate / gemm_rate);
  }
};

std::function<void()> gemm(const Tensor& a, bool transpose_a, const Tensor& b, bool transpose_b,
                           const Tensor& c, double beta = 0) {
  kernels::GemmArgs args{matrix_of(a), transpose_a, matrix_of(b), transpose_b, matrix_of(c), beta};
  const Tensor scratch = Tensor::empty({kernels::gemm_workspace_bytes(launch(), args)}, DType::u8);
  args.workspace = scratch.data();
  return [args, kept = std::vector{a, b, c, scratch}] { kernels::gemm(launch(), args); };
}

void measure_ceilings(Bench& bench) {
  const Tensor x = random({std::int64_t{1} << 31}, DType::bf16), y = Tensor::empty_like(x);
  const double ms = milliseconds_of([&] { y.copy_from(x); });
  bench.copy_rate = 2.0 * x.bytes() / ms * 1e3;
  std::printf("copy: %.2f TB/s\n", bench.copy_rate * 1e-12);
  const Tensor a = random({8192, 8192}, DType::bf16), c = Tensor::empty_like(a);
  bench.gemm_rate = 2 * 8192.0 * 8192 * 8192 / milliseconds_of(gemm(a, false, a, true, c)) * 1e3;
  std::printf("bf16 GEMM 8192^3: %.0f TFLOP/s\n", bench.gemm_rate * 1e-12);
}

void measure_norms(Bench& bench) {
  const Tensor x = random({kTokens, kWidth}, DType::bf16), delta = random(x.shape(), DType::bf16);
  const Tensor sum = Tensor::empty_like(x), y = Tensor::empty_like(x);
  const Tensor weight = random({kWidth}, DType::f32), dweight = Tensor::empty_like(weight);
  const Tensor inverse_rms = Tensor::empty({kTokens}, DType::f32);
  bench.measure_bandwidth("add_rms_norm", 4.0 * x.bytes(), [&] {
    kernels::rms_norm(launch(), {matrix_of(x), matrix_of(delta), matrix_of(sum), weight.data(),
                                 matrix_of(y), inverse_rms.data(), 1e-5});
  });
  kernels::RmsNormBackwardArgs args{matrix_of(x),
                                    inverse_rms.data(),
                                    weight.data(),
                                    {.dense = matrix_of(delta)},
                                    matrix_of(sum),
                                    matrix_of(y),
                                    dweight.data(),
                                    dweight.dtype(),
                                    0,
                                    nullptr};
  const Tensor scratch =
      Tensor::empty({kernels::rms_norm_backward_workspace_bytes(launch(), args)}, DType::u8);
  args.workspace = scratch.data();
  bench.measure_bandwidth("rms_norm_backward", 4.0 * x.bytes(),
                          [&] { kernels::rms_norm_backward(launch(), args); });
}

// What surrounds the experts of a layer with top_k 2 of 8: fused with the norms, and its parts.
void measure_expert_borders(Bench& bench) {
  const Tensor x = random({kTokens, kWidth}, DType::bf16),
               residual = random(x.shape(), DType::bf16);
  const Tensor rows = random({2 * kTokens, kWidth}, DType::bf16), y = Tensor::empty_like(x);
  const Tensor sum = Tensor::empty_like(x), weight = random({kWidth}, DType::f32);
  const Tensor dweight = Tensor::empty_like(weight), router = random({8, kWidth}, DType::f32);
  const Tensor logits = random({kTokens, 8}, DType::f32);
  const Tensor inverse_rms = random({kTokens}, DType::f32);
  std::vector<std::int32_t> order(2 * kTokens);
  for (std::int64_t i = 0; i < 2 * kTokens; ++i)
    order[i] = static_cast<std::int32_t>(i * 40503 % (2 * kTokens));
  const Tensor grouped_rows = Tensor::from(order, {2 * kTokens});
  kernels::RmsNormArgs forward{.x = matrix_of(residual),
                               .delta = matrix_of(x),
                               .sum = matrix_of(sum),
                               .weight = weight.data(),
                               .y = matrix_of(y),
                               .inverse_rms = inverse_rms.data(),
                               .epsilon = 1e-5};
  const auto run_forward = [&](const char* name, double tensors) {
    bench.measure_bandwidth(name, tensors * x.bytes(),
                            [&] { kernels::rms_norm(launch(), forward); });
  };
  forward.delta = matrix_of(rows);
  forward.grouped_rows = grouped_rows.data_as<std::int32_t>();
  forward.top_k = 2;
  run_forward("add_rms_norm of rows", 5);

  kernels::RmsNormBackwardArgs backward{.x = matrix_of(sum),
                                        .inverse_rms = inverse_rms.data(),
                                        .weight = weight.data(),
                                        .dy = {},
                                        .dsum = matrix_of(residual),
                                        .dx = matrix_of(y),
                                        .dweight = dweight.data(),
                                        .dweight_dtype = dweight.dtype(),
                                        .beta = 0};
  backward.dy.rows = matrix_of(rows);
  backward.dy.grouped_rows = grouped_rows.data_as<std::int32_t>();
  backward.dy.top_k = 2;
  const Tensor scratch =
      Tensor::empty({kernels::rms_norm_backward_workspace_bytes(launch(), backward)}, DType::u8);
  backward.workspace = scratch.data();
  const auto run_backward = [&](const char* name) {
    bench.measure_bandwidth(name, 5.0 * x.bytes(),
                            [&] { kernels::rms_norm_backward(launch(), backward); });
  };
  run_backward("rms_norm_backward of rows");
  backward.dy.dlogits = matrix_of(logits);
  backward.dy.weight = matrix_of(router);
  run_backward("... and dlogits");
}

void measure_attention(Bench& bench) {
  const Tensor qkv = random({kTokens, kHeads.packed_width()}, DType::bf16);
  kernels::RotaryArgs rotary{matrix_of(qkv), matrix_of(qkv), kHeads, 10000, false, nullptr};
  const Tensor table =
      Tensor::empty({kernels::rotary_workspace_bytes(launch(), rotary)}, DType::u8);
  rotary.workspace = table.data();
  bench.measure_bandwidth("rotary and its table", 2.0 * qkv.bytes() * 10 / 12,
                          [&] { kernels::rotary(launch(), rotary); });
  rotary.has_table = true;
  bench.measure_bandwidth("rotary", 2.0 * qkv.bytes() * 10 / 12,
                          [&] { kernels::rotary(launch(), rotary); });

  const Tensor output = Tensor::empty({kTokens, kHeads.output_width()}, DType::bf16);
  const Tensor doutput = random(output.shape(), DType::bf16), dqkv = Tensor::empty_like(qkv);
  const Tensor logsumexp =
      Tensor::empty({kHeads.batch, kHeads.num_heads, kHeads.seq_len}, DType::f32);
  const auto q_of = [](const Tensor& qkv) {
    return matrix_of(qkv).columns(0, kHeads.output_width());
  };
  const auto kv_of = [](const Tensor& qkv) {
    return matrix_of(qkv).columns(kHeads.output_width(), kHeads.kv_width());
  };
  const double flops = 2.0 * kTokens * kHeads.seq_len * kHeads.output_width();  // causal
  for (const KernelPolicy& policy : {KernelPolicy{}, {.deterministic = false}, {.cudnn = false}}) {
    const StreamGuard guard(current_stream(), policy);
    const std::string suffix = ": " + kernels::attention_engine(launch(), kHeads, DType::bf16);
    kernels::AttentionArgs forward{.q = q_of(qkv),
                                   .kv = kv_of(qkv),
                                   .output = matrix_of(output),
                                   .logsumexp = logsumexp.data(),
                                   .shape = kHeads};
    const Tensor scratch =
        Tensor::empty({kernels::attention_workspace_bytes(launch(), forward)}, DType::u8);
    forward.workspace = scratch.data();
    bench.measure_gemm("attention" + suffix, flops, [&] { kernels::attention(launch(), forward); });
    kernels::AttentionBackwardArgs backward{.q = q_of(qkv),
                                            .kv = kv_of(qkv),
                                            .output = matrix_of(output),
                                            .doutput = matrix_of(doutput),
                                            .logsumexp = logsumexp.data(),
                                            .dq = q_of(dqkv),
                                            .dkv = kv_of(dqkv),
                                            .shape = kHeads};
    const Tensor backward_scratch =
        Tensor::empty({kernels::attention_backward_workspace_bytes(launch(), backward)}, DType::u8);
    backward.workspace = backward_scratch.data();
    bench.measure_gemm("attention_backward" + suffix, 2.5 * flops,
                       [&] { kernels::attention_backward(launch(), backward); });
  }
}

void measure_gemms(Bench& bench) {
  const Tensor x = random({kTokens, kWidth}, DType::bf16);
  for (const auto& [name, d_out] :
       {std::pair{"qkv", kHeads.packed_width()}, {"projection", kWidth}}) {
    const Tensor w = random({d_out, kWidth}, DType::bf16),
                 y = random({kTokens, d_out}, DType::bf16);
    const Tensor dw = random({d_out, kWidth}, DType::f32), dx = Tensor::empty_like(x);
    const double flops = 2.0 * kTokens * kWidth * d_out;
    bench.measure_gemm(name, flops, gemm(x, false, w, true, y));
    bench.measure_gemm(concat(name, " dx"), flops, gemm(y, false, w, false, dx));
    bench.measure_gemm(concat(name, " dw f32 +="), flops, gemm(y, true, x, false, dw, 1));
  }
  const Tensor chunk = random({kChunk, kWidth}, DType::bf16),
               w = random({kVocab, kWidth}, DType::bf16);
  const Tensor logits = random({kChunk, kVocab}, DType::bf16), dx = Tensor::empty_like(chunk);
  const Tensor dw = random({kVocab, kWidth}, DType::f32);
  const double flops = 2.0 * kChunk * kWidth * kVocab;
  bench.measure_gemm("lm head chunk", flops, gemm(chunk, false, w, true, logits));
  bench.measure_gemm("lm head chunk dx", flops, gemm(logits, false, w, false, dx));
  bench.measure_gemm("lm head chunk dw f32 +=", flops, gemm(logits, true, chunk, false, dw, 1));
  const Tensor router = random({8, kWidth}, DType::f32), scores = random({kTokens, 8}, DType::f32);
  bench.measure_bandwidth("router logits", x.bytes(), gemm(x, false, router, true, scores));
  const Tensor full_dx = Tensor::empty_like(x), drouter = Tensor::empty_like(router);
  bench.measure_bandwidth("router dx", x.bytes(), gemm(scores, false, router, false, full_dx));
  bench.measure_bandwidth("router dw", x.bytes(), gemm(scores, true, x, false, drouter));
}

void measure_vocabulary(Bench& bench) {
  const Tensor ids = random_ids(kTokens), table = random({kVocab, kWidth}, DType::bf16);
  const Tensor x = random({kTokens, kWidth}, DType::bf16);
  const Tensor dtable = random({kVocab, kWidth}, DType::f32);
  bench.measure_bandwidth("embedding", 2.0 * x.bytes(), [&] {
    kernels::embedding(launch(), {matrix_of(table), ids.data_as<std::int32_t>(), matrix_of(x)});
  });
  kernels::EmbeddingBackwardArgs args{matrix_of(x), ids.data_as<std::int32_t>(), matrix_of(dtable),
                                      1, nullptr};
  const Tensor scratch =
      Tensor::empty({kernels::embedding_backward_workspace_bytes(launch(), args)}, DType::u8);
  args.workspace = scratch.data();
  bench.measure_bandwidth("embedding_backward", x.bytes(),
                          [&] { kernels::embedding_backward(launch(), args); });
  const Tensor logits = random({kChunk, kVocab}, DType::bf16), targets = random_ids(kChunk);
  const Tensor losses = Tensor::empty({kChunk}, DType::f32);
  bench.measure_bandwidth("cross_entropy chunk", 2.0 * logits.bytes(), [&] {
    kernels::cross_entropy(
        launch(), {matrix_of(logits), targets.data_as<std::int32_t>(), losses.data(), true, 1.0});
  });
}

/// Bytes per parameter: gradient, and reads and writes of masters and moments.
void measure_adamw(Bench& bench, const Tensor& gradient, bool is_split, DType moments) {
  const Tensor weights =
      is_split ? Tensor::zeros({kParameters}, DType::bf16) : random({kParameters}, DType::f32);
  const Tensor remainders = is_split ? Tensor::zeros({kParameters}, DType::u16) : Tensor();
  const Tensor m = Tensor::zeros({kParameters}, moments), v = Tensor::zeros({kParameters}, moments);
  const std::vector<kernels::AdamwRange> ranges{{0, 0, 0, kParameters, 0.1}};
  const auto bytes = static_cast<double>(size_of(gradient.dtype()) + 8 + 4 * size_of(moments));
  bench.measure_bandwidth(
      concat("adamw", is_split ? " split" : "", ", gradient ", name_of(gradient.dtype()),
             ", moments ", name_of(moments))
          .c_str(),
      bytes * kParameters, [&] {
        kernels::adamw(launch(),
                       {.weights = weights.data(),
                        .remainders = is_split ? remainders.data_as<std::uint16_t>() : nullptr,
                        .gradient = gradient.data(),
                        .m = m.data(),
                        .v = v.data(),
                        .dtype = DType::f32,
                        .gradient_dtype = gradient.dtype(),
                        .moment_dtype = moments,
                        .ranges = ranges,
                        .lr = 1e-3,
                        .beta1 = 0.9,
                        .beta2 = 0.95,
                        .epsilon = 1e-8,
                        .step = 1,
                        .gradient_scale = nullptr});
      });
}

void measure_optimizer(Bench& bench) {
  const Tensor gradient = random({kParameters}, DType::f32);
  measure_adamw(bench, gradient, false, DType::f32);
  for (const DType moments : {DType::f32, DType::bf16})
    measure_adamw(bench, gradient, true, moments);
  measure_adamw(bench, random({kParameters}, DType::bf16), true, DType::f32);
  const Tensor result = Tensor::empty({1}, DType::f64);
  const kernels::ElementRange all{0, kParameters};
  kernels::SumOfSquaresArgs args{.x = gradient.data(),
                                 .dtype = DType::f32,
                                 .ranges = {&all, 1},
                                 .results = result.data_as<double>()};
  const Tensor scratch =
      Tensor::empty({kernels::sum_of_squares_workspace_bytes(launch(), args)}, DType::u8);
  args.workspace = scratch.data();
  bench.measure_bandwidth("sum_of_squares", 4.0 * kParameters,
                          [&] { kernels::sum_of_squares(launch(), args); });
}

}  // namespace

int main(int argc, char** argv) try {
  const Stream stream(select_device("cuda"));
  const StreamGuard guard(stream);
  Bench bench{argc > 1 ? argv[1] : ""};
  for (const auto measure :
       {measure_ceilings, measure_norms, measure_expert_borders, measure_attention, measure_gemms,
        measure_vocabulary, measure_optimizer})
    measure(bench);
} catch (const UsageError& error) {
  std::printf("skipped: no GPU (%s)\n", error.what());
  return 77;
}
