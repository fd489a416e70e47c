#include "autograd/saved_tensor.h"

#include <doctest/doctest.h>

#include "autograd/ops.h"
#include "tests/support/compare.h"
#include "tests/support/graphs.h"

using namespace smoe;
using namespace smoe::test;

namespace {

std::int64_t activation_bytes() {
  return memory_use(Category::activations).now_bytes;
}

// Two ops that read the output of one norm.
struct Readers {
  Parameter norm{"norm", {16}, Init::normal(1), {.decays = false, .full_precision = true}};
  Parameter w1{"w1", {3, 16}, Init::normal(0.5)}, w2{"w2", {3, 16}, Init::normal(0.5)};
  ParameterStore store;

  explicit Readers(DType dtype) : store({&norm, &w1, &w2}, {accumulation_dtype(dtype), dtype, 1}) {}

  Variable operator()(const Variable& normed) {
    return add(linear(normed, w1), linear(normed, w2));
  }
  Variable operator()(const Variable& x, const Variable& delta) {
    return (*this)(add_rms_norm(x, delta, norm, 1e-5).normed);
  }
};

}  // namespace

TEST_CASE("a rematerialized tensor is computed once for all ops that saved it") {
  int runs = 0;
  Tape tape;
  const TapeScope scope(tape);
  const Tensor again = random_normal("again", {2}, DType::f32);
  Variable x = tape.watch(random_normal("x", {2}, DType::f32));
  x.set_rematerialization([&] {
    ++runs;
    return again;
  });
  SavedTensor first(x), second(x);
  CHECK(x.data().is_sole_reference());
  CHECK(first.take().shares_storage(again));
  CHECK(second.take().shares_storage(again));
  CHECK(runs == 1);
  Variable constant(again);
  constant.set_rematerialization([&] { return Tensor(); });
  CHECK(SavedTensor(constant).take().shares_storage(again));
}

TEST_CASE(
    "a norm's output is not held between forward and backward, and is rematerialized "
    "bit-identically") {
  for (const DType dtype : {DType::f32, DType::bf16, DType::f64}) {
    Readers readers(dtype);
    Tape tape;
    const TapeScope scope(tape);
    const Variable x = tape.watch(random_normal("x", {40, 16}, dtype));
    const Variable delta = tape.watch(random_normal("delta", {40, 16}, dtype));
    const std::int64_t before = activation_bytes();
    const Variable y = readers(x, delta);
    const std::int64_t sum = x.data().bytes(),
                       inverse_rms = 40 * size_of(readers.norm.value().dtype());
    CHECK(activation_bytes() - before == sum + inverse_rms + y.data().bytes());

    const Variable normed = add_rms_norm(x, delta, readers.norm, 1e-5).normed;
    check_same_bits("normed", SavedTensor(normed).take(), normed.data());
  }
}

TEST_CASE("gradients equal those with a norm's output that was kept") {
  for (const DType dtype : {DType::f32, DType::bf16}) {
    Readers readers(dtype);
    const Tensor x = random_normal("x", {40, 16}, dtype),
                 weights = random_normal("w", {40, 3}, dtype);
    const auto gradients = [&](bool keeps) {
      Tape tape;
      const TapeScope scope(tape);
      const Variable leaf = tape.watch(x);
      Variable normed = rms_norm(leaf, readers.norm, 1e-5);
      const GradientStep step(readers.store);
      const auto gradients_of =
          tape.backward(dot(readers(keeps ? copy_of(normed) : normed), weights));
      return std::vector{values_of(gradients_of.of(leaf)), values_of(readers.w1.gradient()),
                         values_of(readers.w2.gradient()), values_of(readers.norm.gradient())};
    };
    CHECK(gradients(false) == gradients(true));
  }
}
