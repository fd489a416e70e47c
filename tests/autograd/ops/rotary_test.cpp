#include "tests/reference/rotary.h"

#include <doctest/doctest.h>

#include "autograd/gradient_step.h"
#include "autograd/ops.h"
#include "autograd/rotary_table.h"
#include "autograd/tape.h"
#include "tests/support/compare.h"
#include "tests/support/gradients.h"

using namespace smoe;
using namespace smoe::test;

namespace {

constexpr double kTheta = 100;

// {B, S, H, Hkv, C}
constexpr AttentionShape kShapes[] = {
    {1, 1, 1, 1, 2},  {0, 3, 1, 1, 2},  {2, 0, 1, 1, 2},  {1, 2, 1, 1, 2},  {2, 1, 2, 1, 4},
    {1, 3, 2, 2, 6},  {3, 2, 4, 1, 2},  {1, 15, 1, 1, 2}, {1, 16, 2, 1, 2}, {1, 17, 1, 1, 4},
    {2, 7, 3, 3, 2},  {2, 5, 4, 2, 8},  {1, 33, 1, 1, 2}, {4, 4, 1, 1, 10}, {1, 9, 8, 1, 2},
    {1, 6, 6, 2, 12}, {2, 31, 1, 1, 2}, {1, 8, 2, 2, 32}, {5, 3, 2, 1, 6},  {1, 40, 4, 4, 4}};

Shape packed_of(const AttentionShape& shape) {
  return {shape.num_tokens(), shape.packed_width()};
}

}  // namespace

TEST_CASE("rotary agrees with complex multiplication, its backward with the inverse rotation") {
  const PoisonGuard poison;
  for (const AttentionShape& shape : kShapes)
    for (const DType dtype : {DType::f32, DType::f64, DType::bf16}) {
      Tape tape;
      const TapeScope scope(tape);
      const Variable x = tape.watch(random_normal("x", packed_of(shape), dtype));
      const Tensor dy = random_normal("dy", packed_of(shape), dtype);
      const Variable y = rotary(x, shape, kTheta);
      CHECK_FALSE(y.data().shares_storage(x.data()));
      const auto gradients = tape.backward(dot(y, dy));
      const auto turn = [&](const Tensor& values, double direction) {
        return reference::rotary(shape.batch, shape.seq_len,
                                 shape.num_heads + 2 * shape.num_kv_heads,
                                 shape.num_heads + shape.num_kv_heads, shape.head_dim, kTheta,
                                 direction, values_of(values));
      };
      // In f64 the angle itself, up to S radians, is rounded.
      const std::int64_t length = dtype == DType::f64 ? 2 + shape.seq_len * shape.seq_len : 2;
      check_close("rotary: y", y.data(), turn(x.data(), 1), {.sum_length = length});
      check_close("rotary: dx", gradients.of(x), turn(dy, -1), {.sum_length = length});
    }
}

TEST_CASE("rotary's gradients agree with central differences") {
  for (const AttentionShape& shape : kShapes)
    check_gradients("rotary",
                    [&](const auto& x) { return std::vector{rotary(x[0], shape, kTheta)}; },
                    {random_normal("x", packed_of(shape), DType::f64)});
}

TEST_CASE("rotary of queries and of keys and values apart has the bits of the packed form") {
  const AttentionShape shape{2, 7, 4, 2, 6};
  const AttentionShape queries{2, 7, 4, 0, 6}, keys_and_values{2, 7, 0, 2, 6};
  const Tensor qkv = random_normal("qkv", packed_of(shape), DType::f32);
  const std::vector<std::int64_t> widths{shape.output_width(), shape.kv_width()};
  const auto parts = split_columns(qkv, widths);
  const Variable rotated[] = {rotary(parts[0], queries, kTheta),
                              rotary(parts[1], keys_and_values, kTheta)};
  check_same_bits("rotary apart", concat_columns(rotated).data(),
                  rotary(qkv, shape, kTheta).data());
}

TEST_CASE("rotary works in place, forward and backward, with the sole reference") {
  const AttentionShape shape{2, 8, 2, 1, 4};
  Tape tape;
  const TapeScope scope(tape);
  Variable x = tape.watch(random_normal("x", packed_of(shape), DType::f32));
  const void* memory = x.data().data();
  reset_peak_memory();
  const std::int64_t before = memory_use(Category::activations).now_bytes;
  const Variable y = rotary(std::move(x), shape, kTheta);
  CHECK(y.data().data() == memory);
  CHECK(memory_use(Category::activations).peak_bytes == before);
  const Variable loss = dot(y, random_normal("dy", packed_of(shape), DType::f32));
  reset_peak_memory();
  const std::int64_t at_backward = memory_use(Category::activations).now_bytes;
  tape.backward(loss);
  // dot's gradient and the unit gradient (an f64) are all that is new.
  CHECK(memory_use(Category::activations).peak_bytes - at_backward == y.data().bytes() + 8);
}

TEST_CASE("rotary_linear and its gradients have the bits of linear and rotary") {
  const PoisonGuard poison;
  for (const AttentionShape& shape : kShapes)
    for (const DType dtype : {DType::f32, DType::bf16}) {
      const auto run = [&](bool is_fused) {
        Parameter weight("weight", {shape.packed_width(), 5}, Init::normal(0.3));
        ParameterStore store({&weight}, {.compute = dtype, .seed = 3});
        const auto table = std::make_shared<RotaryTable>();
        Tape tape;
        const TapeScope scope(tape);
        GradientStep step(store);
        const Variable x = tape.watch(random_normal("x", {shape.num_tokens(), 5}, dtype));
        const Variable y = is_fused ? rotary_linear(x, weight, shape, kTheta, 3, table)
                                    : rotary(linear(x, weight), shape, kTheta, 3, table);
        const Variable loss = dot(y, random_normal("dy", packed_of(shape), dtype));
        const Tensor dx = step.backward(tape, loss).of(x);
        step.finish();
        return std::vector{y.data(), dx, weight.gradient().clone(Category::gradients)};
      };
      const std::vector<Tensor> fused = run(true), parts = run(false);
      for (std::size_t i = 0; i < fused.size(); ++i)
        check_same_bits(concat("rotary_linear, result ", i), fused[i], parts[i]);
    }
}

TEST_CASE("rotary_linear rejects invalid arguments") {
  const AttentionShape shape{2, 3, 4, 2, 6};
  Parameter weight("weight", {47, 5}, Init::normal(0.3));
  ParameterStore store({&weight}, {.seed = 3});
  CHECK_THROWS_WITH_AS(rotary_linear(Tensor::zeros({6, 5}, DType::f32), weight, shape, kTheta),
                       "rotary_linear: qkv must be a floating [B*S, (H + 2 Hkv) C] = [6, 48]; got "
                       "[6, 47] f32",
                       UsageError);
  CHECK_THROWS_AS(rotary_linear(Tensor::zeros({6, 4}, DType::f32), weight, shape, kTheta),
                  UsageError);
}

TEST_CASE("rotary rejects invalid arguments") {
  const AttentionShape shape{2, 3, 4, 2, 6};
  CHECK_THROWS_WITH_AS(rotary(Tensor::zeros({6, 47}, DType::f32), shape, kTheta),
                       "rotary: qkv must be a floating [B*S, (H + 2 Hkv) C] = [6, 48]; got "
                       "[6, 47] f32",
                       UsageError);
  CHECK_THROWS_WITH_AS(rotary(Tensor::zeros({1, 3}, DType::f32), {1, 1, 1, 1, 1}, kTheta),
                       "rotary: head_dim must be even; got 1", UsageError);
  CHECK_THROWS_AS(rotary(Tensor::zeros({6, 48}, DType::f32), shape, 0), UsageError);
  CHECK_THROWS_AS(rotary(Tensor::zeros({6, 42}, DType::f32), {2, 3, 3, 2, 6}, kTheta), UsageError);
}
