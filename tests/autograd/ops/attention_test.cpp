#include "tests/reference/attention.h"

#include <doctest/doctest.h>

#include "autograd/ops.h"
#include "autograd/tape.h"
#include "tests/support/compare.h"
#include "tests/support/gradients.h"

using namespace smoe;
using namespace smoe::test;

namespace {

// {B, S, H, Hkv, C}
constexpr AttentionShape kShapes[] = {{1, 1, 1, 1, 1},   {0, 3, 1, 1, 2},   {2, 0, 1, 1, 2},
                                      {1, 2, 1, 1, 2},   {2, 1, 4, 1, 6},   {1, 3, 2, 2, 2},
                                      {1, 5, 4, 4, 2},   {2, 7, 4, 1, 3},   {1, 16, 1, 1, 6},
                                      {1, 31, 2, 1, 2},  {1, 63, 1, 1, 2},  {1, 64, 1, 1, 3},
                                      {1, 65, 2, 2, 2},  {2, 33, 4, 2, 2},  {3, 9, 2, 1, 32},
                                      {1, 70, 4, 1, 2},  {1, 128, 1, 1, 2}, {1, 130, 2, 1, 1},
                                      {1, 257, 1, 1, 2}, {1, 300, 2, 1, 2}, {2, 33, 6, 3, 2, true}};

Tensor random_qkv(const AttentionShape& shape, DType dtype) {
  return random_normal("qkv", {shape.num_tokens(), shape.packed_width()}, dtype);
}

}  // namespace

TEST_CASE("causal_attention's forward and backward agree with whole rows of probabilities") {
  const PoisonGuard poison;
  for (const AttentionShape& shape : kShapes)
    for (const DType dtype : {DType::f32, DType::f64}) {
      Tape tape;
      const TapeScope scope(tape);
      const Variable qkv = tape.watch(random_qkv(shape, dtype));
      const Variable y = causal_attention(qkv, shape);
      const Tensor dy = random_normal("dy", y.shape(), dtype);
      const auto gradients = tape.backward(dot(y, dy));
      const reference::AttentionSizes sizes{shape.batch,     shape.seq_len,
                                            shape.num_heads, shape.num_kv_heads,
                                            shape.head_dim,  shape.is_interleaved};
      const auto values = values_of(qkv.data());
      check_close("causal_attention: y", y.data(), reference::attention(sizes, values).output,
                  {.sum_length = shape.seq_len});
      check_close("causal_attention: dqkv", gradients.of(qkv),
                  reference::attention_backward(sizes, values, values_of(dy)),
                  {.sum_length = shape.seq_len + shape.head_dim});
    }
}

TEST_CASE("causal_attention's gradients agree with central differences") {
  for (const AttentionShape& shape : kShapes)
    check_gradients("causal_attention",
                    [&](const auto& x) { return std::vector{causal_attention(x[0], shape)}; },
                    {random_qkv(shape, DType::f64)});
}

TEST_CASE("causal_attention of queries and keys apart has the bits of the packed form") {
  for (const AttentionShape& shape : kShapes)
    for (const DType dtype : {DType::f32, DType::bf16, DType::f64}) {
      Tape tape;
      const TapeScope scope(tape);
      const Tensor packed = random_qkv(shape, dtype);
      const std::vector<std::int64_t> widths{shape.output_width(), shape.kv_width()};
      const auto parts = split_columns(packed, widths);
      const Variable qkv = tape.watch(packed);
      const Variable q = tape.watch(parts[0].data()), kv = tape.watch(parts[1].data());
      const Variable whole = causal_attention(qkv, shape), apart = causal_attention(q, kv, shape);
      check_same_bits("causal_attention apart: y", apart.data(), whole.data());
      const Tensor dy = random_normal("dy", whole.shape(), dtype);
      const auto gradients = tape.backward({whole, apart}, {dy, dy});
      const Variable both[] = {gradients.of(q), gradients.of(kv)};
      check_same_bits("causal_attention apart: dq and dkv", concat_columns(both).data(),
                      gradients.of(qkv));
    }
}

TEST_CASE("causal_attention stores blocks of scores only, and writes dqkv over qkv") {
  constexpr std::int64_t kSeqLen = 1024, kWidth = 16;
  const AttentionShape shape{1, kSeqLen, 2, 1, kWidth};
  const int threads_before = kernels::cpu::num_threads();
  kernels::cpu::set_num_threads(2);
  Tape tape;
  const TapeScope scope(tape);
  Variable qkv = tape.watch(random_qkv(shape, DType::f32));
  const Variable watched = qkv;
  reset_peak_memory();
  const MemoryUse activations = memory_use(Category::activations);
  const MemoryUse workspace = memory_use(Category::workspace);
  // rotary's output is qkv's only other holder, as in a model.
  Variable rotated = rotary(qkv, shape, 1e4);
  qkv = Variable();
  reset_peak_memory();
  Variable y = causal_attention(rotated, shape);
  rotated = Variable();
  // A block of scores, its outputs, a maximum and a denominator a query: nothing grows with S.
  CHECK(memory_use(Category::workspace).peak_bytes - workspace.now_bytes ==
        2 * 4 * (64 * 256 + 64 * kWidth + 2 * 64));
  const std::int64_t qkv_bytes = watched.data().bytes();
  CHECK(memory_use(Category::activations).now_bytes - activations.now_bytes ==
        qkv_bytes + y.data().bytes() + 4 * 2 * kSeqLen);

  const Variable loss = dot(y, random_normal("dy", y.shape(), DType::f32));
  const std::int64_t y_bytes = y.data().bytes();
  y = Variable();
  reset_peak_memory();
  const std::int64_t at_backward = memory_use(Category::activations).now_bytes;
  tape.backward(loss);
  // Two blocks, dQ and delta; dK and dV of one key head.
  CHECK(memory_use(Category::workspace).peak_bytes - workspace.now_bytes ==
        2 * 4 * (2 * 64 * 256 + 64 * kWidth + 64 + 2 * kSeqLen * kWidth));
  // dot's gradient and the unit gradient (an f64) are all that is new: dqkv lies over qkv.
  CHECK(memory_use(Category::activations).peak_bytes - at_backward == y_bytes + 8);
  kernels::cpu::set_num_threads(threads_before);
}

TEST_CASE("causal_attention does not overwrite a qkv with other references") {
  const AttentionShape shape{1, 5, 1, 1, 2};
  Tape tape;
  const TapeScope scope(tape);
  const Variable qkv = tape.watch(random_qkv(shape, DType::f32));
  const Variable rotated = rotary(qkv, shape, 1e4);
  const std::vector<double> before = values_of(rotated.data());
  const Variable y = causal_attention(rotated, shape);
  tape.backward(dot(y, random_normal("dy", y.shape(), DType::f32)));
  CHECK(values_of(rotated.data()) == before);
}

TEST_CASE("causal_attention rejects invalid arguments") {
  CHECK_THROWS_WITH_AS(
      causal_attention(Tensor::zeros({6, 24}, DType::f32), Tensor::zeros({6, 23}, DType::f32),
                       {2, 3, 4, 2, 6}),
      "causal_attention: q must be [B*S, H C] = [6, 24] and kv [B*S, 2 Hkv C] = [6, 24] in one "
      "floating dtype; got [6, 24] f32 and [6, 23] f32",
      UsageError);
  CHECK_THROWS_WITH_AS(
      causal_attention(Tensor::zeros({6, 47}, DType::f32), {2, 3, 4, 2, 6}),
      "causal_attention: qkv must be a floating [B*S, (H + 2 Hkv) C] = [6, 48]; got [6, 47] f32",
      UsageError);
  CHECK_THROWS_WITH_AS(causal_attention(Tensor::zeros({6, 48}, DType::f32), {2, 3, 4, 3, 6}),
                       "causal_attention: sizes must be positive and num_kv_heads divide "
                       "num_heads; got batch 2, seq_len 3, num_heads 4, num_kv_heads 3, head_dim 6",
                       UsageError);
}
