#include <doctest/doctest.h>

#include "autograd/ops.h"
#include "autograd/parameter_store.h"
#include "tests/support/compare.h"
#include "tests/support/graphs.h"
#include "tests/support/moe_cases.h"

using namespace smoe;
using namespace smoe::test;

namespace {

constexpr DType kDtypes[] = {DType::f32, DType::f64, DType::bf16};

struct Mode {
  RowLayout x, y;
  bool row_per_token = false, combines = false;
};
constexpr Mode kModes[] = {{RowLayout::grouped, RowLayout::grouped},
                           {RowLayout::grouped, RowLayout::scattered},
                           {RowLayout::scattered, RowLayout::grouped},
                           {RowLayout::scattered, RowLayout::scattered},
                           {RowLayout::scattered, RowLayout::grouped, true},
                           {RowLayout::grouped, RowLayout::grouped, false, true},
                           {RowLayout::scattered, RowLayout::scattered, false, true},
                           {RowLayout::scattered, RowLayout::scattered, true, true}};

// A layer with everything it reads.
struct Setup {
  Setup(const MoeCase& c, const Mode& m, DType dtype)
      : test(c),
        mode(m),
        plan(c.plan()),
        weight("w", {c.num_experts, c.f, c.d}, Init::normal(1)),
        bias("b", {c.num_experts, c.f}, Init::normal(1)),
        store({&weight, &bias}, {accumulation_dtype(dtype), dtype, 5}) {
    x = random_normal("x", {m.row_per_token ? c.num_tokens : plan.num_rows(), c.d}, dtype);
    gates = random_normal("gates", {c.num_tokens, c.top_k}, accumulation_dtype(dtype));
    dy = random_normal("dy", {m.combines ? c.num_tokens : plan.num_rows(), c.f}, dtype);
  }

  Variable forward(const Variable& input, const Variable& by) {
    return parallel_linear(input, weight, plan, {mode.x, mode.y, &bias},
                           mode.combines ? by : Variable());
  }

  MoeCase test;
  Mode mode;
  RoutingPlan plan;
  Parameter weight, bias;
  ParameterStore store;
  Tensor x, gates, dy;
};

// Rounds to bf16 where the op stores rows in between, if that is the dtype.
reference::Round rounding(DType dtype) {
  if (dtype != DType::bf16) return {};
  return [](double value) { return double(float(bf16(value))); };
}

void check_case(const MoeCase& test, const Mode& mode, DType dtype) {
  Setup s(test, mode, dtype);
  const auto routed = test.routed();
  const auto round = rounding(dtype);
  const double u = unit_roundoff(dtype);  // of rows stored in between, which may cancel in sums
  const std::int64_t d = test.d, f = test.f;
  Tape tape;
  const TapeScope scope(tape);
  const Variable x = tape.watch(s.x), gates = tape.watch(s.gates);
  const Variable y = s.forward(x, gates);
  const auto gradients = tape.backward(dot(y, s.dy));

  const auto x_pairs = from_layout(values_of(s.x), s.plan, mode.x);
  const auto w = values_of(s.weight.value()), gate_values = values_of(s.gates);
  auto rows = reference::project(routed, x_pairs, w, values_of(s.bias.value()), d, f);
  auto drows = values_of(s.dy);
  double slack = 0, dy_slack = 0;
  if (mode.combines) {
    reference::round_all(rows, round);
    slack = u * largest(rows) * std::max(largest(gate_values), largest(drows));
    const auto dout = drows;
    check_close("y: " + test.name(), y.data(), reference::sum_pairs(routed, rows, gate_values, f),
                {.sum_length = d + test.top_k, .slack = slack});
    check_close("dgates: " + test.name(), gradients.of(gates),
                reference::gates_gradient(routed, rows, dout, f),
                {.sum_length = d + f, .slack = slack});
    drows = reference::gate_rows(routed, dout, gate_values, f);
    reference::round_all(drows, round);
    dy_slack = u * largest(drows);
  } else {
    check_close("y: " + test.name(), y.data(), to_layout(rows, s.plan, mode.y),
                {.sum_length = d + 1});
    drows = from_layout(drows, s.plan, mode.y);
  }
  auto dx = reference::project_back(routed, drows, w, d, f);
  if (mode.row_per_token) {
    reference::round_all(dx, round);
    check_close("dx: " + test.name(), gradients.of(x), reference::sum_pairs(routed, dx, {}, d),
                {.sum_length = f + test.top_k, .slack = u * largest(dx) + dy_slack * largest(w)});
  } else {
    check_close("dx: " + test.name(), gradients.of(x), to_layout(dx, s.plan, mode.x),
                {.sum_length = f, .slack = dy_slack * largest(w)});
  }
  check_close("dw: " + test.name(), s.weight.gradient(),
              reference::weight_gradient(routed, drows, x_pairs, d, f),
              {.sum_length = s.plan.num_rows() + 1, .slack = dy_slack * largest(x_pairs)});
  check_close("db: " + test.name(), s.bias.gradient(), reference::bias_gradient(routed, drows, f),
              {.sum_length = s.plan.num_rows() + 1, .slack = dy_slack});
}

constexpr Mode kScattered{RowLayout::scattered, RowLayout::scattered, false, true};

// A case with rows of x no wider than those of y.
MoeCase widening(MoeCase test) {
  if (test.d > test.f) std::swap(test.d, test.f);
  return test;
}

Variable without_bias(Setup& s, const Variable& x, const Variable& gates) {
  return parallel_linear(x, s.weight, s.plan, {.input = RowLayout::scattered}, gates);
}

// Gates of scattered rows that are no wider than the output, without bias: they scale x.
void check_scaled_rows(const MoeCase& test, DType dtype) {
  Setup s(test, kScattered, dtype);
  const auto routed = test.routed();
  const auto round = rounding(dtype);
  const double u = round ? unit_roundoff(DType::bf16) : 0;
  const std::int64_t d = test.d, f = test.f, n = s.plan.num_rows();
  Tape tape;
  const TapeScope scope(tape);
  const Variable x = tape.watch(s.x), gates = tape.watch(s.gates);
  const Variable y = without_bias(s, x, gates);
  const auto gradients = tape.backward(dot(y, s.dy));

  const auto rows_of_x = values_of(s.x), w = values_of(s.weight.value());
  const auto gate_values = values_of(s.gates), dout = values_of(s.dy);
  const auto scaled = [&](std::vector<double> rows) {
    for (std::size_t i = 0; i < rows.size(); ++i) rows[i] *= gate_values[i / d];
    return rows;
  };
  auto scaled_x = scaled(rows_of_x);
  reference::round_all(scaled_x, round);
  auto rows = reference::project(routed, scaled_x, w, {}, d, f);
  reference::round_all(rows, round);
  check_close("y: " + test.name(), y.data(), reference::sum_pairs(routed, rows, {}, f),
              {.sum_length = d + test.top_k, .slack = u * (largest(rows) + largest(scaled_x))});
  const std::vector<double> ones(n, 1);
  const auto drows = reference::gate_rows(routed, dout, ones, f);
  auto dscaled = reference::project_back(routed, drows, w, d, f);
  reference::round_all(dscaled, round);
  std::vector<double> dgates(n, 0);
  for (std::int64_t i = 0; i < n * d; ++i) dgates[i / d] += rows_of_x[i] * dscaled[i];
  const double slack = u * largest(dscaled);
  check_close("dgates: " + test.name(), gradients.of(gates), dgates,
              {.sum_length = d + f, .slack = slack * largest(rows_of_x)});
  check_close("dx: " + test.name(), gradients.of(x), scaled(dscaled),
              {.sum_length = f, .slack = slack * largest(gate_values)});
  check_close("dw: " + test.name(), s.weight.gradient(),
              reference::weight_gradient(routed, drows, scaled_x, d, f),
              {.sum_length = n + 1, .slack = u * largest(scaled_x)});
}

}  // namespace

TEST_CASE("gates that scale the rows of x agree with plain loops and central differences") {
  const PoisonGuard poison;
  for (const MoeCase& original : moe_cases()) {
    const MoeCase test = widening(original);
    for (const DType dtype : kDtypes) check_scaled_rows(test, dtype);
    Setup s(test, kScattered, DType::f64);
    const auto f = [&](const std::vector<Variable>& in) {
      return std::vector{without_bias(s, in[0], in[1])};
    };
    check_gradients("scaled rows: " + test.name(), f, {s.x, s.gates}, &s.store);
  }
}

TEST_CASE("gates that scale the rows of x save no rows of y") {
  for (const bool x_is_shared : {false, true}) {
    Setup s({40, 2, 4, 16, 24}, kScattered, DType::f32);
    Tape tape;
    const TapeScope scope(tape);
    const Variable source = tape.watch(s.x);
    Variable x = copy_of(source);
    const Tensor held = x_is_shared ? x.data() : Tensor();
    const Variable gates = tape.watch(s.gates);
    const std::int64_t before = memory_use(Category::activations).now_bytes;
    const Variable y = without_bias(s, x, gates);
    x = Variable();
    CHECK(memory_use(Category::activations).now_bytes - before == y.data().bytes());
    // The gradient of y, scaled rows, then dx over x unless that is shared.
    const std::int64_t dx = x_is_shared ? s.x.bytes() : 0;
    CHECK(peak_bytes_of_backward(tape, dot(y, s.dy)) ==
          s.dy.bytes() + s.x.bytes() + s.gates.bytes() + dx);
    if (x_is_shared) check_same_bits("x", held, s.x);
  }
}

TEST_CASE("parallel_linear agrees with plain loops in every layout and dtype") {
  const PoisonGuard poison;
  for (const MoeCase& test : moe_cases())
    for (const Mode& mode : kModes)
      for (const DType dtype : kDtypes) check_case(test, mode, dtype);
}

TEST_CASE("parallel_linear's gradients agree with central differences") {
  for (const MoeCase& test : moe_cases())
    for (const Mode& mode : kModes) {
      Setup s(test, mode, DType::f64);
      const auto f = [&](const std::vector<Variable>& in) {
        return std::vector{s.forward(in[0], in.back())};
      };
      std::vector<Tensor> inputs = {s.x};
      if (mode.combines) inputs.push_back(s.gates);
      check_gradients("parallel_linear: " + test.name(), f, inputs, &s.store);
    }
}

TEST_CASE("parallel_linear's backward allocates no more than documented") {
  const MoeCase test{40, 2, 4, 24, 16};
  const std::int64_t rows = 80, x_row = 24 * 4, y_row = 16 * 4;
  for (const Mode& mode : kModes)
    for (const bool x_is_shared : {false, true}) {
      Setup s(test, mode, DType::f32);
      Tape tape;
      const TapeScope scope(tape);
      const Variable source = tape.watch(s.x);
      Variable x = copy_of(source);
      const Tensor held = x_is_shared ? x.data() : Tensor();
      const Variable gates = tape.watch(s.gates);
      const std::int64_t before = memory_use(Category::activations).now_bytes;
      const Variable y = s.forward(x, gates);
      x = Variable();
      // Saved beyond x and gates: the rows that gates combine.
      const std::int64_t saved = memory_use(Category::activations).now_bytes - before;
      CHECK(saved == y.data().bytes() + (mode.combines ? rows * y_row : 0));

      const std::int64_t dx = x_is_shared ? s.x.bytes() : 0;  // otherwise over x
      const std::int64_t routed = mode.row_per_token ? rows * x_row : 0;
      const std::int64_t dgates = mode.combines ? s.gates.bytes() : 0;
      // The gradient of combined rows goes over those, and dy is let go before dx is made.
      const std::int64_t peak =
          mode.combines ? dgates + std::max(s.dy.bytes(), dx + routed) : s.dy.bytes() + dx + routed;
      CHECK(peak_bytes_of_backward(tape, dot(y, s.dy)) == peak);
      if (x_is_shared) check_same_bits("x", held, s.x);
    }
}

TEST_CASE("two parallel_linears may share x") {
  const MoeCase test{30, 2, 4, 5, 6};
  Setup a(test, kModes[0], DType::f64);
  Setup b(test, kModes[0], DType::f64);
  const auto f = [&](const std::vector<Variable>& in) {
    const Variable x = copy_of(in[0]);
    return std::vector{a.forward(x, {}), b.forward(x, {})};
  };
  check_gradients("shared x", f, {a.x});
}

TEST_CASE("parallel_linear's bits do not depend on the number of threads") {
  for (const Mode& mode : kModes)
    for (const DType dtype : kDtypes)
      check_thread_independence("parallel_linear", [&] {
        Setup s({300, 2, 4, 40, 36}, mode, dtype);
        Tape tape;
        const TapeScope scope(tape);
        const Variable x = tape.watch(s.x), gates = tape.watch(s.gates);
        const Variable y = s.forward(x, gates);
        const auto gradients = tape.backward(dot(y, s.dy));
        return std::vector{y.data(), gradients.of(x), s.weight.gradient(), s.bias.gradient()};
      });
}

TEST_CASE("parallel_linear rejects invalid arguments") {
  const RoutingPlan plan = plan_of({0, 1, 1, 0}, 2, 2);
  Parameter w("w", {2, 5, 3}, Init::constant(1));
  ParameterStore store({&w}, {});
  CHECK_THROWS_WITH_AS(parallel_linear(Tensor::zeros({3, 3}, DType::f32), w, plan),
                       "parallel_linear: x must be [N=4, D_in=3], or scattered [T=2, D_in]; "
                       "got [3, 3]",
                       UsageError);
  CHECK_THROWS_WITH_AS(parallel_linear(Tensor::zeros({2, 3}, DType::f32), w, plan, {},
                                       Tensor::zeros({2, 1}, DType::f32)),
                       "parallel_linear: gates must be [2, 2] in f32; got [2, 1] in f32",
                       UsageError);
  CHECK_THROWS_AS(parallel_linear(Tensor::zeros({2, 3}, DType::f32), w, plan_of({0, 0}, 1, 1)),
                  UsageError);
  CHECK_THROWS_AS(parallel_linear(Tensor::zeros({2, 3}, DType::f64), w, plan), UsageError);
}
