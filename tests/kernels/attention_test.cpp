#include "kernels/attention.h"

#include <doctest/doctest.h>

#include "tests/kernels/attention_cases.h"
#include "tests/reference/attention.h"
#include "tests/support/compare.h"

using namespace smoe;
using namespace smoe::test;
using kernels::AttentionShape;

namespace {

constexpr DType kDtypes[] = {DType::f32, DType::f64, DType::bf16};

// {B, S, H, Hkv, C}: one position, tails of blocks, one block of keys and several; interleaved
// heads.
constexpr AttentionShape kShapes[] = {
    {1, 1, 1, 1, 2},    {2, 1, 4, 1, 6},        {3, 2, 2, 2, 1},          {1, 63, 1, 1, 32},
    {2, 64, 2, 1, 6},   {1, 65, 4, 4, 2},       {2, 70, 4, 1, 8},         {1, 129, 4, 2, 32},
    {1, 257, 2, 1, 16}, {1, 300, 4, 1, 5},      {1, 530, 1, 1, 3},        {0, 5, 1, 1, 4},
    {3, 0, 1, 1, 4},    {2, 70, 6, 2, 8, true}, {1, 129, 12, 3, 4, true}, {2, 65, 4, 4, 3, true}};

reference::AttentionSizes sizes_of(const AttentionShape& shape) {
  return {shape.batch,        shape.seq_len,  shape.num_heads,
          shape.num_kv_heads, shape.head_dim, shape.is_interleaved};
}

// Numbers per query [B, H, S] of the reference, [Hkv, B, H / Hkv, S] if heads are interleaved.
std::vector<double> in_order(const AttentionShape& shape, const std::vector<double>& numbers) {
  if (!shape.is_interleaved) return numbers;
  std::vector<double> ordered;
  for (std::int64_t kv_head = 0; kv_head < shape.num_kv_heads; ++kv_head)
    for (std::int64_t sequence = 0; sequence < shape.batch; ++sequence)
      for (std::int64_t head = kv_head; head < shape.num_heads; head += shape.num_kv_heads) {
        const auto first = numbers.begin() + (sequence * shape.num_heads + head) * shape.seq_len;
        ordered.insert(ordered.end(), first, first + shape.seq_len);
      }
  return ordered;
}

// With bf16 storage, probabilities and their gradients are rounded to bf16 before the GEMMs, so
// results err by up to 2^-8 of the largest element, which this sum_length expresses.
Closeness closeness(DType dtype, std::int64_t sum_length) {
  if (dtype == DType::bf16) return {.sum_length = std::int64_t{1} << 32, .factor = 1};
  return {.sum_length = sum_length};
}

}  // namespace

TEST_CASE("attention agrees with whole rows of probabilities") {
  const PoisonGuard poison;
  for (const AttentionShape& shape : kShapes)
    for (const DType dtype : kDtypes) {
      const AttentionForward got = run_attention(shape, random_qkv(shape, dtype));
      const auto wanted = reference::attention(sizes_of(shape), values_of(got.qkv));
      check_close("attention: output", got.output, wanted.output, closeness(dtype, shape.seq_len));
      check_close("attention: logsumexp", got.logsumexp, in_order(shape, wanted.logsumexp),
                  {.sum_length = shape.head_dim + shape.seq_len});
    }
}

TEST_CASE("attention_backward agrees with whole rows of probabilities") {
  const PoisonGuard poison;
  for (const AttentionShape& shape : kShapes)
    for (const DType dtype : kDtypes) {
      const AttentionForward forward = run_attention(shape, random_qkv(shape, dtype));
      const Tensor doutput = random_doutput(shape, dtype);
      const Tensor dqkv =
          run_attention_backward(shape, forward, doutput, Tensor::empty_like(forward.qkv));
      check_close("attention: dqkv", dqkv,
                  reference::attention_backward(sizes_of(shape), values_of(forward.qkv),
                                                values_of(doutput)),
                  closeness(dtype, shape.seq_len + shape.head_dim));
    }
}

TEST_CASE("attention_backward may write dqkv over qkv") {
  for (const AttentionShape& shape : kShapes)
    for (const DType dtype : kDtypes) {
      const AttentionForward forward = run_attention(shape, random_qkv(shape, dtype));
      const Tensor doutput = random_doutput(shape, dtype);
      const Tensor apart =
          run_attention_backward(shape, forward, doutput, Tensor::empty_like(forward.qkv));
      check_same_bits("attention: dqkv",
                      run_attention_backward(shape, forward, doutput, forward.qkv), apart);
    }
}

TEST_CASE("attention's bits do not depend on the number of threads") {
  for (const AttentionShape& shape : {AttentionShape{2, 300, 4, 2, 32}, {1, 70, 4, 4, 5}})
    for (const DType dtype : kDtypes)
      check_thread_independence("attention", [&] {
        const AttentionForward forward = run_attention(shape, random_qkv(shape, dtype));
        const Tensor dqkv = run_attention_backward(shape, forward, random_doutput(shape, dtype),
                                                   Tensor::empty_like(forward.qkv));
        return std::vector{forward.output, forward.logsumexp, dqkv};
      });
}

TEST_CASE("attention is accurate for large scores") {
  // Scores of several hundred: their exponentials would overflow.
  const AttentionShape shape{1, 300, 2, 1, 4};
  for (const DType dtype : {DType::f32, DType::f64}) {
    const AttentionForward got = run_attention(shape, random_qkv(shape, dtype, 20));
    const auto wanted = reference::attention(sizes_of(shape), values_of(got.qkv));
    // A score of size s is rounded by s u, and its exponential by that much relatively.
    check_close("attention: output", got.output, wanted.output, {.sum_length = 1000 * 1000});
  }
}

TEST_CASE("attention is causal") {
  const AttentionShape shape{1, 300, 1, 1, 4};
  const Tensor qkv = random_qkv(shape, DType::f32);
  const Tensor before = run_attention(shape, qkv).output;
  const std::int64_t last = 261;
  for (std::int64_t i = last * shape.packed_width(); i < qkv.numel(); ++i)
    qkv.data_as<float>()[i] = 1e4f;
  const Tensor after = run_attention(shape, qkv).output;
  check_same_bits("attention", after.rows(0, last), before.rows(0, last));
}

TEST_CASE("a NaN only affects the queries that attend to it") {
  const AttentionShape shape{1, 70, 1, 1, 4};
  const Tensor qkv = random_qkv(shape, DType::f32);
  qkv.data_as<float>()[40 * shape.packed_width() + 4] = NAN;  // a key
  const std::vector<double> output = values_of(run_attention(shape, qkv).output);
  for (std::int64_t t = 0; t < 70; ++t) CHECK(std::isnan(output[t * 4]) == (t >= 40));
}

TEST_CASE("with bf16 storage the numerators are rounded to bf16 before the product with v") {
  // exp(-0.6905) = 0.5013 rounds to 0.5, and 1 * 1 - 0.5 * 2 is exactly zero.
  const AttentionShape shape{1, 2, 1, 1, 2};
  const Tensor qkv = tensor_of({0, 0, -0.9765625, 0, -2, 0,  //
                                1, 0, 0, 0, 1, 0},
                               {2, 6}, DType::bf16);
  CHECK(values_of(run_attention(shape, qkv).output)[2] == 0);
}

TEST_CASE("attention's workspace does not grow with the square of the sequence length") {
  const auto bytes = [](std::int64_t seq_len, DType dtype) {
    const AttentionShape shape{1, seq_len, 2, 1, 32};
    kernels::AttentionArgs forward{};
    forward.q.dtype = dtype;
    forward.shape = shape;
    kernels::AttentionBackwardArgs backward{};
    backward.q.dtype = dtype;
    backward.shape = shape;
    return std::pair{
        kernels::attention_workspace_bytes(launch(), forward) / kernels::cpu::num_threads(),
        kernels::attention_backward_workspace_bytes(launch(), backward) /
            kernels::cpu::num_threads()};
  };
  // Forward: a block of scores, its outputs, a maximum and a denominator per query.
  CHECK(bytes(1 << 16, DType::f32).first == 4 * (64 * 256 + 64 * 32 + 2 * 64));
  CHECK(bytes(1 << 10, DType::f32).first == bytes(1 << 16, DType::f32).first);
  // Backward: two blocks, dQ, delta; dK and dV of a sequence's key head.
  for (const std::int64_t seq_len : {1 << 10, 1 << 16})
    CHECK(bytes(seq_len, DType::f32).second ==
          4 * (2 * 64 * 256 + 64 * 32 + 64 + 2 * seq_len * 32));
  // bf16: also the blocks of q, dO, k and v as f32.
  CHECK(bytes(1 << 16, DType::bf16).first ==
        bytes(1 << 16, DType::f32).first + 4 * (2 * 64 * 32 + 2 * 256 * 32));
}

namespace {

// Rows [begin, end) of every sequence of x [B*S, width], concatenated.
Tensor rows_of_all(const Tensor& x, std::int64_t batch, std::int64_t begin, std::int64_t end) {
  const std::int64_t seq_len = x.dim(0) / batch;
  std::vector<double> values;
  const std::vector<double> all = values_of(x);
  for (std::int64_t b = 0; b < batch; ++b)
    values.insert(values.end(), all.begin() + (b * seq_len + begin) * x.dim(1),
                  all.begin() + (b * seq_len + end) * x.dim(1));
  return tensor_of(values, {batch * (end - begin), x.dim(1)}, x.dtype());
}

}  // namespace

TEST_CASE(
    "cached attention agrees with attention over the whole sequence, in pieces of any length") {
  const PoisonGuard poison;
  // Ends of the pieces: all at once, token by token, and around the boundaries of blocks of keys.
  const std::vector<std::vector<std::int64_t>> cuts = {
      {3}, {1, 2, 3, 4, 5, 6, 7}, {250, 251, 330}, {255, 256, 257, 258}, {300, 301, 530}};
  for (const auto& ends : cuts)
    for (const DType dtype : kDtypes)
      for (const auto& [batch, heads, kv_heads, width] :
           {std::tuple{1, 1, 1, 8}, std::tuple{2, 4, 2, 6}, std::tuple{3, 4, 1, 3}}) {
        const AttentionShape whole{batch, ends.back(), heads, kv_heads, width};
        const Tensor qkv = random_qkv(whole, dtype);
        const Tensor wanted =
            tensor_of(reference::attention(sizes_of(whole), values_of(qkv)).output,
                      {whole.num_tokens(), whole.output_width()}, DType::f64);
        const std::int64_t capacity = ends.back() + 2;
        const Tensor cache = Tensor::empty({batch * capacity, 2 * kv_heads * width}, dtype);
        std::int64_t begin = 0;
        for (const std::int64_t end : ends) {
          const AttentionShape piece{batch, end - begin, heads, kv_heads, width};
          const Tensor output = run_cached_attention(piece, rows_of_all(qkv, batch, begin, end),
                                                     cache, capacity, begin);
          check_close("cached attention", output, values_of(rows_of_all(wanted, batch, begin, end)),
                      closeness(dtype, end));
          begin = end;
        }
      }
}

TEST_CASE("cached attention writes only the new rows of its cache") {
  const AttentionShape shape{2, 3, 2, 1, 4};
  const Tensor qkv = random_qkv(shape, DType::f32);
  const Tensor cache = random_normal("cache", {2 * 9, 8}, DType::f32);
  const Tensor before = cache.clone(Category::workspace);
  run_cached_attention(shape, qkv, cache, 9, 4);
  for (std::int64_t b = 0; b < 2; ++b) {
    check_same_bits("rows before", cache.rows(b * 9, b * 9 + 4), before.rows(b * 9, b * 9 + 4));
    check_same_bits("rows after", cache.rows(b * 9 + 7, b * 9 + 9),
                    before.rows(b * 9 + 7, b * 9 + 9));
    for (std::int64_t i = 0; i < 3; ++i)
      check_same_bits("a new row", cache.rows(b * 9 + 4 + i, b * 9 + 5 + i).reshape({8}),
                      qkv.view((b * 3 + i) * 16 + 8, {8}));
  }
}
