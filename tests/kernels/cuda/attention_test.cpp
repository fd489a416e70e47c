#include "kernels/attention.h"

#include <doctest/doctest.h>

#include "kernels/engines.h"
#include "tests/kernels/attention_cases.h"
#include "tests/support/cuda.h"

using namespace smoe;
using namespace smoe::test;

namespace {

using kernels::AttentionShape;

// One of everything, tails of a tile of queries or keys, grouped and single heads, no sequence,
// interleaved heads.
const std::vector<AttentionShape>& shapes() {
  static const std::vector<AttentionShape> all = {
      {1, 1, 1, 1, 1},    {2, 3, 2, 1, 2},         {0, 5, 2, 1, 8},           {1, 32, 1, 1, 16},
      {2, 33, 4, 2, 24},  {1, 65, 6, 3, 64},       {1, 130, 4, 1, 72},        {2, 257, 8, 2, 128},
      {1, 40, 2, 2, 256}, {2, 70, 6, 2, 24, true}, {2, 257, 12, 3, 128, true}};
  return all;
}

// In bf16 both backends round probabilities and their gradients before the GEMMs, possibly to
// different neighbors: each errs by up to 2^-8 of the largest element, which this sum_length
// expresses.
Closeness closeness(DType dtype, std::int64_t sum_length) {
  if (dtype == DType::bf16) return {.sum_length = std::int64_t{1} << 32, .factor = 2};
  return {.sum_length = sum_length};
}

std::vector<Result> run(const AttentionShape& shape, DType dtype, bool in_place) {
  const AttentionForward forward = run_attention(shape, random_qkv(shape, dtype));
  const Tensor doutput = random_doutput(shape, dtype);
  const bool is_in_place =
      in_place && kernels::attention_backward_is_in_place(
                      launch(), attention_backward_args(shape, forward, doutput, forward.qkv));
  const Tensor dqkv = is_in_place ? forward.qkv : Tensor::empty_like(forward.qkv);
  run_attention_backward(shape, forward, doutput, dqkv);
  return {
      {"output", forward.output, closeness(dtype, shape.seq_len)},
      {"logsumexp", forward.logsumexp, {.sum_length = shape.head_dim + shape.seq_len}},
      {"dqkv", dqkv,
       closeness(dtype, shape.seq_len * shape.num_heads / shape.num_kv_heads + shape.head_dim)}};
}

// New rows after `num_cached` others, in a cache with a capacity of three more.
std::vector<Result> run_cached(const AttentionShape& shape, DType dtype, std::int64_t num_cached) {
  const std::int64_t capacity = num_cached + shape.seq_len + 3;
  const Tensor cache = random_normal(
      "cache", {shape.batch * capacity, 2 * shape.num_kv_heads * shape.head_dim}, dtype);
  const Tensor output =
      run_cached_attention(shape, random_qkv(shape, dtype), cache, capacity, num_cached);
  return {{"cache", cache, {.sum_length = 0}},
          {"output", output, closeness(dtype, num_cached + shape.seq_len)}};
}

void check_attention() {
  for (const AttentionShape& shape : shapes())
    for (const DType dtype : {DType::f32, DType::bf16})
      for (const bool in_place : {false, true})
        check_on_gpu(concat("attention B ", shape.batch, " S ", shape.seq_len, " H ",
                            shape.num_heads, shape.is_interleaved ? "%" : "/", shape.num_kv_heads,
                            " C ", shape.head_dim, " ", name_of(dtype), " in place ", in_place),
                     [&] { return run(shape, dtype, in_place); });
}

}  // namespace

TEST_CASE("attention over cached keys and values on the GPU agrees with the CPU's") {
  for (const AttentionShape& shape : shapes())
    for (const DType dtype : {DType::f32, DType::bf16})
      for (const std::int64_t num_cached : {0, 1, 70})
        check_on_gpu(concat("cached attention B ", shape.batch, " S ", shape.seq_len, " H ",
                            shape.num_heads, shape.is_interleaved ? "%" : "/", shape.num_kv_heads,
                            " C ", shape.head_dim, " ", name_of(dtype), " cached ", num_cached),
                     [&] { return run_cached(shape, dtype, num_cached); });
}

TEST_CASE("cuDNN takes interleaved heads as it takes others") {
  const auto is_cudnn = [](const AttentionShape& shape) {
    return kernels::attention_engine(launch(), shape, DType::bf16).starts_with("cuDNN");
  };
  const StreamGuard guard(gpu_stream());
  if (!is_cudnn({1, 130, 4, 2, 128})) return;
  for (const std::int64_t batch : {1, 3})
    for (const std::int64_t num_kv_heads : {1, 2, 16})
      for (const std::int64_t group_size : {1, 2, 16}) {
        const AttentionShape shape{batch, 130, num_kv_heads * group_size, num_kv_heads, 128, true};
        const std::string name =
            concat("B ", batch, " Hkv ", num_kv_heads, " heads per key head ", group_size);
        CAPTURE(name);
        CHECK(is_cudnn(shape));
        check_on_gpu(name, [&] { return run(shape, DType::bf16, group_size == 2); });
      }
}

TEST_CASE("attention writes gradients in place on the CPU and by SIMT kernels, but not by cuDNN") {
  const AttentionShape shape{1, 130, 4, 2, 128};
  const auto is_in_place = [&](DType dtype) {
    const AttentionForward forward = run_attention(shape, random_qkv(shape, dtype));
    const Tensor doutput = random_doutput(shape, dtype);
    return kernels::attention_backward_is_in_place(
        launch(), attention_backward_args(shape, forward, doutput, forward.qkv));
  };
  CHECK(is_in_place(DType::bf16));
  const StreamGuard guard(gpu_stream());
  CHECK(is_in_place(DType::f32));
  const bool is_cudnn =
      kernels::attention_engine(launch(), shape, DType::bf16).starts_with("cuDNN");
  CHECK(is_in_place(DType::bf16) == !is_cudnn);
  const StreamGuard without(current_stream(), {.cudnn = false});
  CHECK(is_in_place(DType::bf16));
}

TEST_CASE("attention by cuDNN that need not be deterministic agrees with the CPU's too") {
  const AttentionShape shape{2, 257, 8, 2, 128};
  const StreamGuard guard(gpu_stream(), {.deterministic = false});
  const std::vector<Result> got = run(shape, DType::bf16, false);
  std::vector<std::vector<double>> wanted;
  {
    const Stream cpu;
    const StreamGuard on_cpu(cpu);
    for (const Result& result : run(shape, DType::bf16, false))
      wanted.push_back(values_of(result.tensor));
  }
  for (std::size_t i = 0; i < got.size(); ++i)
    check_close(got[i].name, got[i].tensor, wanted[i], got[i].closeness);
}

TEST_CASE("attention and its backward on the GPU agree with the CPU's") {
  const StreamGuard guard(current_stream(), {.cudnn = false});
  check_attention();
}

TEST_CASE("attention and its backward by cuDNN, where it has them, agree with the CPU's") {
  check_attention();
}
