#include <doctest/doctest.h>

#include <optional>

#include "autograd/ops.h"
#include "autograd/parameter_store.h"
#include "tests/support/activations.h"
#include "tests/support/compare.h"
#include "tests/support/graphs.h"
#include "tests/support/moe_cases.h"

using namespace smoe;
using namespace smoe::test;

namespace {

constexpr DType kDtypes[] = {DType::f32, DType::f64, DType::bf16};

// A layer with everything it reads.
struct Setup {
  Setup(const MoeCase& c, Activation k, DType dtype)
      : test(c),
        kind(k),
        plan(c.plan()),
        w1("w1", is_gated(k) ? Shape{c.num_experts, 2, c.f, c.d} : Shape{c.num_experts, c.f, c.d},
           Init::normal(1 / std::sqrt(c.d))),
        w2("w2", {c.num_experts, c.d, c.f}, Init::normal(1 / std::sqrt(c.f))),
        store({&w1, &w2}, {accumulation_dtype(dtype), dtype, 5}) {
    x = random_normal("x", {c.num_tokens, c.d}, dtype);
    gates = random_normal("gates", {c.num_tokens, c.top_k}, accumulation_dtype(dtype));
    dout = random_normal("dout", {c.num_tokens, c.d}, dtype);
  }

  Variable forward(const Variable& input, const Variable& by) {
    return moe_mlp(input, by, plan, w1, w2, kind);
  }

  MoeCase test;
  Activation kind;
  RoutingPlan plan;
  Parameter w1, w2;
  ParameterStore store;
  Tensor x, gates, dout;
};

reference::Round rounding(DType dtype) {
  if (dtype != DType::bf16) return {};
  return [](double value) { return double(float(bf16(value))); };
}

void check_case(const MoeCase& test, Activation kind, const reference::Act& act, DType dtype) {
  Setup s(test, kind, dtype);
  Tape tape;
  const TapeScope scope(tape);
  const Variable x = tape.watch(s.x), gates = tape.watch(s.gates);
  const Variable out = s.forward(x, gates);
  const auto gradients = tape.backward(dot(out, s.dout));
  const auto round = rounding(dtype);
  const auto w1 = values_of(s.w1.value()), w2 = values_of(s.w2.value());
  const auto x_values = values_of(s.x), dout = values_of(s.dout);
  const auto m = reference::mlp(test.routed(), x_values, values_of(s.gates), w1, w2, dout, test.d,
                                test.f, act, round);
  // In bf16 some h, a, dh and rows fall to the other neighbour.
  const double u = round ? unit_roundoff(DType::bf16) : 0;
  const std::int64_t rows = s.plan.num_rows(), d = test.d, f = test.f;
  check_close("out: " + test.name(), out.data(), m.out,
              {.sum_length = d + f + test.top_k, .slack = u * largest(m.a) * largest(w2)});
  check_close("dx: " + test.name(), gradients.of(x), m.dx,
              {.sum_length = d + 2 * f + test.top_k, .slack = u * largest(m.dh) * largest(w1)});
  check_close("dgates: " + test.name(), gradients.of(gates), m.dgates,
              {.sum_length = d + f, .slack = u * largest(m.dgates)});
  check_close("dw1: " + test.name(), s.w1.gradient(), m.dw1,
              {.sum_length = rows + d + f, .slack = u * largest(m.dh) * largest(x_values)});
  check_close("dw2: " + test.name(), s.w2.gradient(), m.dw2,
              {.sum_length = rows + d + f, .slack = u * largest(m.a) * largest(dout)});
}

}  // namespace

TEST_CASE("moe_mlp agrees with plain loops for every activation and dtype") {
  const PoisonGuard poison;
  for (const auto& [kind, act] : activations())
    for (const DType dtype : kDtypes)
      for (const MoeCase& test : moe_cases()) check_case(test, kind, act, dtype);
}

TEST_CASE("moe_mlp's gradients agree with central differences") {
  for (const auto& [kind, act] : activations())
    for (const MoeCase& test : moe_cases()) {
      Setup s(test, kind, DType::f64);
      const auto f = [&](const std::vector<Variable>& in) {
        return std::vector{s.forward(in[0], in[1])};
      };
      check_gradients("moe_mlp: " + test.name(), f, {s.x, s.gates}, &s.store);
    }
}

TEST_CASE("moe_mlp saves only x, gates and h, and stores no h without a tape") {
  const MoeCase test{40, 2, 4, 24, 16};
  const std::int64_t rows = 80, h = rows * 2 * 16 * 4, a = rows * 16 * 4, y = rows * 24 * 4,
                     out_bytes = 40 * 24 * 4;
  Setup s(test, Activation::swiglu, DType::f32);
  const auto activations = [] { return memory_use(Category::activations); };
  const std::int64_t before = activations().now_bytes;
  Tape tape;
  for (const bool records : {true, false}) {
    const TapeScope scope(tape);
    const NoGradScope no_grad;
    std::optional<TapeScope> again;
    if (records) again.emplace(tape);
    reset_peak_memory();
    const Variable out = s.forward(s.x, s.gates);
    const std::int64_t kept = records ? h : 0;
    CHECK(activations().now_bytes - before == kept + y + out_bytes);
    out.data();  // until then y is kept for the norm that follows
    CHECK(activations().now_bytes - before == kept + out_bytes);
    CHECK(activations().peak_bytes - before == kept + y + std::max(a, out_bytes));
    tape.clear();
  }
}

TEST_CASE("moe_mlp's backward needs one buffer of rows besides h, and dx may reuse dout") {
  for (const auto& [d, f] : {std::pair{24, 16}, {16, 24}})
    for (const bool dout_is_shared : {false, true}) {
      Setup s({40, 2, 4, d, f}, Activation::swiglu, DType::f32);
      Tape tape;
      const TapeScope scope(tape);
      const Variable x = tape.watch(s.x), gates = tape.watch(s.gates);
      const Variable out = s.forward(x, gates);
      const Tensor held = s.dout.clone(Category::workspace);
      const Variable loss =
          dout_is_shared ? dot_with_shared_gradient(out, s.dout) : dot(out, s.dout);
      const std::int64_t rows = 80 * std::max(d, f) * 4, tokens = 40 * d * 4;
      CHECK(peak_bytes_of_backward(tape, loss) == rows + tokens + s.gates.bytes());
      check_same_bits("dout", s.dout, held);
    }
}

TEST_CASE("moe_mlp's bits do not depend on the number of threads") {
  for (const DType dtype : kDtypes)
    check_thread_independence("moe_mlp", [&] {
      Setup s({300, 2, 4, 40, 36}, Activation::swiglu, dtype);
      Tape tape;
      const TapeScope scope(tape);
      const Variable x = tape.watch(s.x), gates = tape.watch(s.gates);
      const Variable out = s.forward(x, gates);
      const auto gradients = tape.backward(dot(out, s.dout));
      return std::vector{out.data(), gradients.of(x), gradients.of(gates), s.w1.gradient(),
                         s.w2.gradient()};
    });
}

TEST_CASE("moe_mlp equals parallel_linear, activation, parallel_linear") {
  const MoeCase test{50, 2, 4, 12, 20};
  Setup s(test, Activation::swiglu, DType::f64);
  const Tensor fused = s.forward(s.x, s.gates).data();
  Parameter flat_w1("w", {4, 40, 12}, Init::constant(0));
  ParameterStore store({&flat_w1}, {DType::f64, DType::f64, 0});
  std::copy_n(s.w1.value().data_as<double>(), s.w1.numel(), flat_w1.master().data_as<double>());
  const Variable h = parallel_linear(s.x, flat_w1, s.plan);
  const Variable a = activation(h.data().reshape({100, 2, 20}), Activation::swiglu);
  const Variable out = parallel_linear(a, s.w2, s.plan, {RowLayout::grouped}, s.gates);
  check_close("composed", out.data(), values_of(fused), {.sum_length = 32});
}

TEST_CASE("moe_mlp rejects invalid arguments") {
  Setup s({4, 2, 3, 5, 6}, Activation::swiglu, DType::f32);
  CHECK_THROWS_WITH_AS(s.forward(Tensor::zeros({3, 5}, DType::f32), s.gates),
                       "moe_mlp: x must be [T=4, D]; got [3, 5]", UsageError);
  CHECK_THROWS_WITH_AS(s.forward(Tensor::zeros({4, 7}, DType::f32), s.gates),
                       "moe_mlp: weights must be [E, 2, F, D] and [E, D, F] with E=3, D=7; got "
                       "[3, 2, 6, 5] and [3, 5, 6]",
                       UsageError);
  CHECK_THROWS_WITH_AS(s.forward(s.x, Tensor::zeros({4, 2}, DType::f64)),
                       "moe_mlp: gates must be [4, 2] in f32; got [4, 2] in f64", UsageError);
}
