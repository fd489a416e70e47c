#include <doctest/doctest.h>

#include "autograd/ops.h"
#include "tests/support/activations.h"
#include "tests/support/compare.h"
#include "tests/support/graphs.h"

using namespace smoe;
using namespace smoe::test;

namespace {

Shape preactivation_shape(std::int64_t rows, std::int64_t f, bool gated) {
  return gated ? Shape{rows, 2, f} : Shape{rows, f};
}

}  // namespace

TEST_CASE("activation agrees with plain loops in every dtype") {
  const PoisonGuard poison;
  for (const auto& [kind, act] : activations())
    for (const DType dtype : {DType::f32, DType::f64, DType::bf16}) {
      const std::int64_t n = 13, f = 21, width = act.width(f);
      Tape tape;
      const TapeScope scope(tape);
      const Variable h =
          tape.watch(random_normal("h", preactivation_shape(n, f, act.gated), dtype, 2));
      const Tensor da = random_normal("da", {n, f}, dtype);
      const Variable a = activation(h, kind);
      const auto gradients = tape.backward(dot(a, da));
      const auto h_values = values_of(h.data()), da_values = values_of(da);
      std::vector<double> a_wanted(n * f), dh(n * width);
      for (std::int64_t row = 0; row < n; ++row)
        for (std::int64_t i = 0; i < f; ++i) {
          a_wanted[row * f + i] = act.at(&h_values[row * width], f, i);
          act.backward(&h_values[row * width], da_values[row * f + i], f, i, &dh[row * width]);
        }
      check_close("a", a.data(), a_wanted);
      check_close("dh", gradients.of(h), dh);
    }
}

TEST_CASE("activation's gradients agree with central differences") {
  for (const auto& [kind, act] : activations())
    for (const std::int64_t n : {0, 1, 2, 5, 33})
      for (const std::int64_t f : {1, 3, 16, 33})
        check_gradients(
            "activation",
            [kind = kind](const auto& x) { return std::vector{activation(x[0], kind)}; },
            {random_normal("h", preactivation_shape(n, f, act.gated), DType::f64)});
}

TEST_CASE("activation writes dh over an h with a single reference") {
  for (const bool is_shared : {false, true}) {
    Tape tape;
    const TapeScope scope(tape);
    const Variable x = tape.watch(random_normal("h", {40, 2, 16}, DType::f32));
    Variable h = copy_of(x);
    const Tensor held = is_shared ? h.data() : Tensor();
    const Variable a = activation(h, Activation::swiglu);
    h = Variable();
    const Tensor da = random_normal("da", {40, 16}, DType::f32);
    const std::int64_t dh_bytes = 40 * 2 * 16 * 4;
    CHECK(peak_bytes_of_backward(tape, dot(a, da)) == da.bytes() + (is_shared ? dh_bytes : 0));
    if (is_shared) check_same_bits("h", held, x.data());
  }
}

TEST_CASE("activation rejects invalid arguments") {
  CHECK_THROWS_WITH_AS(activation(Tensor::zeros({3, 5}, DType::f32), Activation::swiglu),
                       "activation: h must be [N, 2 F] or [N, 2, F]; got [3, 5]", UsageError);
  CHECK_THROWS_WITH_AS(activation(Tensor::zeros({3, 2, 4}, DType::f32), Activation::gelu),
                       "activation: h must be [N, F]; got [3, 2, 4]", UsageError);
}
