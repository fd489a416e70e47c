// Benchmark of the experts of one SMoE layer on this GPU: each kernel and the whole layer, forward
// and backward, including the sort by expert, next to dense cuBLAS GEMMs of the same sizes in the
// same run. Random data; times are medians over many passes of the whole layer after a warm-up,
// once with an event after each kernel, which keeps kernels from overlapping, and once without.
// Results are checked against dot products in double before they are timed.
// usage: smoe_bench_layer [seconds per size] [name of a size]
#include <cublas_v2.h>
#include <cuda_runtime_api.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <string>
#include <vector>

#include "autograd/ops/run_kernel.h"
#include "core/base/cuda.cuh"
#include "kernels/combine.h"
#include "kernels/elementwise.h"
#include "kernels/moe_mlp.h"
#include "kernels/routing.h"
#include "tests/support/routing_plans.h"
#include "tests/support/tensors.h"

using namespace smoe;
using namespace smoe::test;
using kernels::RowLayout;

namespace {

struct Sizes {
  const char* name;
  std::int64_t num_tokens, d, f, num_experts, top_k;
  std::int64_t num_rows() const { return num_tokens * top_k; }
  double flops(double gemms) const { return gemms * 2.0 * num_rows() * d * f; }
};
constexpr Sizes kSizes[] = {
    {"paper-1.5b", 32768, 1024, 3584, 8, 2},     {"paper-unit", 61440, 4096, 2048, 32, 4},
    {"granularity-4", 30720, 4096, 2048, 64, 8}, {"sonic-30b", 32768, 4096, 1024, 128, 8},
    {"olmoe", 32768, 2048, 1024, 64, 8},         {"fine-grained", 40960, 1536, 256, 128, 8}};

void check_cublas(cublasStatus_t status) {
  SMOE_INTERNAL_CHECK(status == CUBLAS_STATUS_SUCCESS, "cublas: status ", static_cast<int>(status));
}

cudaStream_t stream() {
  return static_cast<cudaStream_t>(launch().stream);
}

/// Normal values, repeated with a period that is not a multiple of any row.
Tensor random(const Shape& shape, double scale) {
  static const Tensor block = random_normal("block", {(1 << 20) + 7}, DType::bf16);
  const Tensor x = Tensor::empty(shape, DType::bf16);
  for (std::int64_t i = 0; i < x.numel(); i += block.numel()) {
    const std::int64_t size = std::min(block.numel(), x.numel() - i);
    kernels::scale(launch(),
                   {block.data(), DType::bf16, x.data_as<bf16>() + i, DType::bf16, size, scale});
  }
  return x;
}

/// `count` elements of a device matrix, `step` apart, on the host, once the stream is idle.
std::vector<double> line(const void* data, DType dtype, std::int64_t first, std::int64_t step,
                         std::int64_t count) {
  return dispatch_floating(dtype, [&](auto type) {
    using T = decltype(type);
    std::vector<T> values(count);
    CUDA_CHECK(cudaStreamSynchronize(stream()));
    CUDA_CHECK(cudaMemcpy2D(values.data(), sizeof(T), static_cast<const T*>(data) + first,
                            step * sizeof(T), sizeof(T), count, cudaMemcpyDeviceToHost));
    return std::vector<double>(values.begin(), values.end());
  });
}

double dot(const std::vector<double>& a, const std::vector<double>& b) {
  double sum = 0;
  for (std::size_t i = 0; i < a.size(); ++i) sum += a[i] * b[i];
  return sum;
}

/// One step of a pass: our kernel, and the cuBLAS GEMM of the same size if there is one.
struct Step {
  std::string name;
  double gemms;  // in units of N x D x F
  std::function<void()> run;
  std::function<void()> dense = nullptr;
};

class Layer {
 public:
  explicit Layer(const Sizes& sizes) : s_(sizes) {
    const std::int64_t e = s_.num_experts, n = s_.num_rows(), t = s_.num_tokens;
    check_cublas(cublasCreate(&cublas_));
    check_cublas(cublasSetStream(cublas_, stream()));
    plan_ = plan_of(expert_ids_of(t, s_.top_k, e, Spread::uniform), s_.top_k, e);
    x_ = random({t, s_.d}, 1);
    dout_ = random({t, s_.d}, 1);
    w1_ = random({e, 2 * s_.f, s_.d}, 1 / std::sqrt(s_.d));
    w2_ = random({e, s_.d, s_.f}, 1 / std::sqrt(s_.f));
    gates_ = random_normal("gates", {t, s_.top_k}, DType::f32);
    dgates_ = Tensor::empty_like(gates_);
    h_ = Tensor::empty({n, 2 * s_.f}, DType::bf16);
    a_ = Tensor::empty({n, s_.f}, DType::bf16);
    y_ = Tensor::empty({n, s_.d}, DType::bf16);
    out_ = Tensor::empty({t, s_.d}, DType::bf16);
    dw1_ = Tensor::zeros({e, 2 * s_.f, s_.d}, DType::f32);
    dw2_ = Tensor::zeros({e, s_.d, s_.f}, DType::f32);
  }
  ~Layer() { cublasDestroy(cublas_); }
  Layer(const Layer&) = delete;
  Layer& operator=(const Layer&) = delete;

  std::vector<Step> forward() {
    const std::int64_t n = s_.num_rows(), d = s_.d, f = s_.f;
    return {
        {"sort", 0, [this] { sort(); }},
        {"up + swiglu", 2, [this] { up(); }, dense(w1_, true, x_, false, h_, 2 * f, n, d)},
        {"down", 1, gemm(grouped(a_), w2_, false, y_), dense(w2_, true, a_, false, y_, d, n, f)},
        {"combine", 0, combine(y_, out_)}};
  }
  /// As ops/moe_mlp.cpp does it in training: f32 gradients, accumulated if `beta` is 1.
  std::vector<Step> backward(double beta) {
    const std::int64_t n = s_.num_rows(), d = s_.d, f = s_.f;
    return {{"down backward + dswiglu", 1, [this] { down_backward(); },
             dense(w2_, false, dout_, false, a_, f, n, d)},
            {"dW2", 1, gradient(scattered(dout_), grouped(a_), dw2_, beta),
             dense(a_, false, dout_, true, dw2_, f, d, n)},
            {"dW1", 2, gradient(grouped(h_), scattered(x_), dw1_, beta, true),
             dense(x_, false, h_, true, dw1_, d, 2 * f, n)},
            {"dx rows", 2, gemm(grouped(h_), w1_, true, y_, true),
             dense(w1_, false, h_, false, y_, d, n, 2 * f)},
            {"combine dx", 0, combine(y_, out_)}};
  }

  /// Runs one pass and checks sampled elements of each result against dot products in double.
  bool is_right() {
    worst_ = 0;
    for (const Step& step : forward()) step.run();
    const auto ids = plan_.sorted_scattered_ids.to_vector<std::int32_t>();
    const auto offsets = plan_.expert_offsets.to_vector<std::int32_t>();
    const auto gates = gates_.to_vector<float>();
    const std::int64_t d = s_.d, f = s_.f, n = s_.num_rows();
    const auto expert_of = [&](std::int64_t p) {
      return std::upper_bound(offsets.begin(), offsets.end(), p) - offsets.begin() - 1;
    };
    const auto row = [](const Tensor& m, std::int64_t i) {
      const std::int64_t cols = m.dim(-1);
      return line(m.data(), m.dtype(), i * cols, 1, cols);
    };
    RandomStream random(3, hash_name("samples"));
    struct Sample {
      std::int64_t p, c;
      double u, v;
    };
    std::vector<Sample> samples;
    for (int i = 0; i < 40; ++i) {
      const auto p = i < 2 ? (n - 1) * i : static_cast<std::int64_t>(random.below(n));
      const auto c = i < 2 ? (f - 1) * i : static_cast<std::int64_t>(random.below(f));
      const std::int64_t e = expert_of(p), t = ids[p] / s_.top_k;
      const auto h = row(h_, p);
      compare("h", h[c], dot(row(x_, t), row(w1_, e * 2 * f + c)));
      compare("h", h[f + c], dot(row(x_, t), row(w1_, e * 2 * f + f + c)));
      compare("a", row(a_, p)[c], gates[ids[p]] * h[c] / (1 + std::exp(-h[c])) * h[f + c]);
      compare("y", row(y_, p)[c % d], dot(row(a_, p), row(w2_, e * d + c % d)));
      samples.push_back({p, c, h[c], h[f + c]});
    }
    for (const Step& step : backward(0)) step.run();
    for (const Sample& at : samples) {
      const std::int64_t e = expert_of(at.p), t = ids[at.p] / s_.top_k, c = at.c;
      const auto dh = row(h_, at.p);
      const double da = dot(row(dout_, t), line(w2_.data(), DType::bf16, e * d * f + c, f, d));
      const double s = 1 / (1 + std::exp(-at.u)), gate = gates[ids[at.p]];
      compare("du", dh[c], gate * da * at.v * (s + at.u * s * (1 - s)));
      compare("dv", dh[f + c], gate * da * at.u * s);
      compare("dx rows", row(y_, at.p)[c % d],
              dot(dh, line(w1_.data(), DType::bf16, e * 2 * f * d + c % d, d, 2 * f)));
      const std::int64_t rows = offsets[e + 1] - offsets[e], begin = offsets[e];
      double dw1 = 0, dw2 = 0;
      const auto dh_col = line(h_.data(), DType::bf16, begin * 2 * f + c, 2 * f, rows);
      const auto a_col = line(a_.data(), DType::bf16, begin * f + c, f, rows);
      const auto x_col = line(x_.data(), DType::bf16, c % d, d, s_.num_tokens);
      const auto dout_col = line(dout_.data(), DType::bf16, c % d, d, s_.num_tokens);
      for (std::int64_t i = 0; i < rows; ++i) {
        dw1 += dh_col[i] * x_col[ids[begin + i] / s_.top_k];
        dw2 += a_col[i] * dout_col[ids[begin + i] / s_.top_k];
      }
      compare("dW1", line(dw1_.data(), DType::f32, (e * 2 * f + c) * d + c % d, 1, 1)[0], dw1);
      compare("dW2", line(dw2_.data(), DType::f32, (e * d + c % d) * f + c, 1, 1)[0], dw2);
    }
    return worst_ <= 1;
  }

 private:
  // Two roundings to bf16, relative, plus an absolute tolerance for the usual magnitude.
  void compare(const char* what, double got, double wanted) {
    const double error = std::abs(got - wanted) / (std::abs(wanted) / 64 + 1e-2);
    if (error > worst_ || std::isnan(error)) {
      worst_ = std::isnan(error) ? INFINITY : error;
      if (worst_ > 1) std::printf("  %s is %g; expected %g\n", what, got, wanted);
    }
  }

  static kernels::RoutedRows scattered(const Tensor& t) {
    return {matrix_of(t), RowLayout::scattered};
  }
  static kernels::RoutedRows grouped(const Tensor& t) { return {matrix_of(t), RowLayout::grouped}; }

  void sort() const {
    run_kernel(kernels::group_by_expert, kernels::group_by_expert_workspace_bytes,
               {.expert_ids = plan_.expert_ids.data_as<std::int32_t>(),
                .num_rows = s_.num_rows(),
                .num_experts = s_.num_experts,
                .sorted_scattered_ids = plan_.sorted_scattered_ids.data_as<std::int32_t>(),
                .grouped_rows = plan_.grouped_rows.data_as<std::int32_t>(),
                .expert_offsets = plan_.expert_offsets.data_as<std::int32_t>()});
  }
  void up() const {
    run_kernel(kernels::expert_up, kernels::expert_up_workspace_bytes,
               {view_of(plan_), matrix_of(x_), experts_of(w1_), kernels::Activation::swiglu,
                gates_.data(), matrix_of(h_), matrix_of(a_)});
  }
  void down_backward() const {
    run_kernel(kernels::expert_down_backward, kernels::expert_down_backward_workspace_bytes,
               {view_of(plan_), matrix_of(dout_), experts_of(w2_), kernels::Activation::swiglu,
                gates_.data(), matrix_of(h_), matrix_of(a_), dgates_.data()});
  }
  std::function<void()> gemm(const kernels::RoutedRows& x, const Tensor& w, bool transpose,
                             const Tensor& y, bool overlaps = false) const {
    return [=, this] {
      run_kernel(kernels::grouped_gemm, kernels::grouped_gemm_workspace_bytes,
                 {.routing = view_of(plan_),
                  .x = x,
                  .weight = experts_of(w),
                  .transpose_weight = transpose,
                  .y = matrix_of(y),
                  .overlaps_preceding = overlaps});
    };
  }
  std::function<void()> gradient(const kernels::RoutedRows& dy, const kernels::RoutedRows& x,
                                 const Tensor& dw, double beta, bool overlaps = false) const {
    return [=, this] {
      run_kernel(kernels::expert_gradient, kernels::expert_gradient_workspace_bytes,
                 {.routing = view_of(plan_),
                  .dy = dy,
                  .x = x,
                  .dtype = dw.dtype(),
                  .dweight = dw.data(),
                  .beta = beta,
                  .overlaps_preceding = overlaps});
    };
  }
  std::function<void()> combine(const Tensor& rows, const Tensor& out) const {
    return [=, this] {
      kernels::combine(launch(),
                       {.routing = view_of(plan_), .y = grouped(rows), .out = matrix_of(out)});
    };
  }
  // c [m, n] = op(a) op(b), column-major as in cuBLAS, with the first expert's weights for all
  // rows. If one operand has T rows and the other N, the GEMM is split into top_k GEMMs of T rows.
  std::function<void()> dense(const Tensor& a, bool transpose_a, const Tensor& b, bool transpose_b,
                              const Tensor& c, std::int64_t m, std::int64_t n, std::int64_t k) {
    return [=, this] {
      const bool is_gradient = c.dtype() == DType::f32;
      const std::int64_t tokens = s_.num_tokens;
      const bool has_tokens = b.dim(0) == tokens || a.dim(0) == tokens;
      for (std::int64_t part = 0; part < (has_tokens ? s_.top_k : 1); ++part) {
        const std::int64_t rows = has_tokens ? tokens : s_.num_rows();
        const float alpha = 1, beta = is_gradient && part > 0 ? 1 : 0;
        const auto skip = [&](const Tensor& t) {  // to the first of the N rows of part `part`
          return static_cast<char*>(t.data()) +
                 (t.dim(0) == s_.num_rows() ? part * rows * t.dim(1) * size_of(t.dtype()) : 0);
        };
        const int mm = static_cast<int>(m), nn = static_cast<int>(is_gradient ? n : rows);
        const int kk = static_cast<int>(is_gradient ? rows : k);
        check_cublas(cublasGemmEx(
            cublas_, transpose_a ? CUBLAS_OP_T : CUBLAS_OP_N,
            transpose_b ? CUBLAS_OP_T : CUBLAS_OP_N, mm, nn, kk, &alpha, skip(a), CUDA_R_16BF,
            transpose_a ? kk : mm, skip(b), CUDA_R_16BF, transpose_b ? nn : kk, &beta, skip(c),
            is_gradient ? CUDA_R_32F : CUDA_R_16BF, mm, CUBLAS_COMPUTE_32F, CUBLAS_GEMM_DEFAULT));
      }
    };
  }
  Sizes s_;
  cublasHandle_t cublas_ = nullptr;
  RoutingPlan plan_;
  Tensor x_, dout_, w1_, w2_, gates_, dgates_, h_, a_, y_, out_, dw1_, dw2_;
  double worst_ = 0;
};

double median(std::vector<float> values) {
  std::nth_element(values.begin(), values.begin() + values.size() / 2, values.end());
  return values[values.size() / 2];
}

using Calls = std::vector<std::function<void()>>;

Calls joined(Calls first, const Calls& second) {
  first.insert(first.end(), second.begin(), second.end());
  return first;
}

/// One call that makes all of them.
std::function<void()> in_turn(const Calls& calls) {
  return [&calls] {
    for (const auto& call : calls) call();
  };
}

/// Median milliseconds of each call over passes through all of them.
std::vector<double> time_passes(const Calls& calls, double seconds) {
  std::vector<cudaEvent_t> events(calls.size() + 1);
  for (cudaEvent_t& event : events) CUDA_CHECK(cudaEventCreate(&event));
  std::vector<std::vector<float>> times(calls.size());
  double total = 0;  // ms of all passes, including the warm-up
  for (int pass = 0; pass < 8 || total < 1e3 * seconds; ++pass) {
    for (std::size_t i = 0; i < calls.size(); ++i) {
      CUDA_CHECK(cudaEventRecord(events[i], stream()));
      calls[i]();
    }
    CUDA_CHECK(cudaEventRecord(events.back(), stream()));
    CUDA_CHECK(cudaEventSynchronize(events.back()));
    for (std::size_t i = 0; i < calls.size(); ++i) {
      float ms = 0;
      CUDA_CHECK(cudaEventElapsedTime(&ms, events[i], events[i + 1]));
      total += ms;
      if (pass >= 3) times[i].push_back(ms);
    }
  }
  for (cudaEvent_t event : events) cudaEventDestroy(event);
  std::vector<double> medians;
  for (const auto& values : times) medians.push_back(median(values));
  return medians;
}

void report(const Sizes& sizes, double seconds) {
  Layer layer(sizes);
  std::printf("%s: T %ld, D %ld, F %ld, E %ld, K %ld\n", sizes.name, sizes.num_tokens, sizes.d,
              sizes.f, sizes.num_experts, sizes.top_k);
  if (!layer.is_right()) {
    std::printf("  wrong results: not timed\n");
    return;
  }
  const std::vector<Step> steps[] = {layer.forward(), layer.backward(1)};
  Calls ours[2], dense[2];  // of forward and backward
  for (int pass = 0; pass < 2; ++pass)
    for (const Step& step : steps[pass]) {
      ours[pass].push_back(step.run);
      if (step.dense) dense[pass].push_back(step.dense);
    }
  const std::vector<double> ms = time_passes(joined(ours[0], ours[1]), seconds);
  const std::vector<double> dense_ms = time_passes(joined(dense[0], dense[1]), seconds);
  std::size_t i = 0, dense_i = 0;
  for (const std::vector<Step>& pass : steps)
    for (const Step& step : pass) {
      std::printf("  %-24s %8.3f ms", step.name.c_str(), ms[i]);
      if (step.dense) {
        const double blas = dense_ms[dense_i++], tflop = sizes.flops(step.gemms) / 1e12;
        std::printf(" %6.0f TFLOP/s, cuBLAS dense %8.3f ms %6.0f TFLOP/s: %4.2f of it",
                    tflop / ms[i] * 1e3, blas, tflop / blas * 1e3, blas / ms[i]);
      }
      std::printf("\n");
      ++i;
    }
  const std::vector<double> whole = time_passes({in_turn(ours[0]), in_turn(ours[1])}, seconds);
  const std::vector<double> blas = time_passes({in_turn(dense[0]), in_turn(dense[1])}, seconds);
  const auto summary = [&](const char* what, double gemms, double ours_ms, double blas_ms) {
    const double tflop = sizes.flops(gemms) / 1e12;
    std::printf("  %-24s %8.3f ms %6.0f TFLOP/s, cuBLAS dense %8.3f ms %6.0f TFLOP/s\n", what,
                ours_ms, tflop / ours_ms * 1e3, blas_ms, tflop / blas_ms * 1e3);
  };
  summary("forward", 3, whole[0], blas[0]);
  summary("forward + backward", 9, whole[0] + whole[1], blas[0] + blas[1]);
}

}  // namespace

int main(int argc, char** argv) {
  try {
    const double seconds = argc > 1 ? std::atof(argv[1]) : 1.0;
    const Stream gpu(select_device("cuda"));
    const StreamGuard guard(gpu);
    for (const Sizes& sizes : kSizes)
      if (argc <= 2 || sizes.name == std::string(argv[2])) report(sizes, seconds);
  } catch (const UsageError& error) {
    std::printf("skipped: no GPU (%s)\n", error.what());
    return 77;
  }
}
