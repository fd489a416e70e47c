#include "kernels/combine.h"

#include <doctest/doctest.h>

#include "tests/kernels/combine_cases.h"
#include "tests/support/compare.h"

using namespace smoe;
using namespace smoe::test;
using kernels::RowLayout;

TEST_CASE("combine and the gates' gradient agree with plain loops") {
  const PoisonGuard poison;
  std::vector<MoeCase> cases = moe_cases();
  cases.push_back({9, 2, 4, 600, 1});  // more columns than a chunk
  for (const MoeCase& test : cases)
    for (const DType dtype : {DType::f32, DType::f64, DType::bf16})
      for (const RowLayout layout : {RowLayout::grouped, RowLayout::scattered}) {
        const CombineCase c(test, dtype, layout);
        const auto routed = test.routed();
        const auto y_pairs = from_layout(values_of(c.y), c.plan, layout);
        for (const bool gated : {false, true}) {
          const auto wanted = reference::sum_pairs(
              routed, y_pairs, gated ? values_of(c.gates) : std::vector<double>{}, test.d);
          check_close("combine: " + test.name(), c.out(gated), wanted, {.sum_length = test.top_k});
        }
        check_close("dgates: " + test.name(), c.dgates(),
                    reference::gates_gradient(routed, y_pairs, values_of(c.dout), test.d),
                    {.sum_length = test.d});
      }
}

TEST_CASE("backward of combine writes over y what its parts compute") {
  const PoisonGuard poison;
  std::vector<MoeCase> cases = moe_cases();
  cases.push_back({9, 2, 4, 600, 1});
  for (const MoeCase& test : cases)
    for (const DType dtype : {DType::f32, DType::f64, DType::bf16}) {
      const CombineCase c(test, dtype, RowLayout::grouped);
      const auto routed = test.routed();
      const auto dout = values_of(c.dout);
      const auto [dgates, dy, dbias] = c.backward();
      check_same_bits("dgates: " + test.name(), dgates, c.dgates());
      check_close("dy: " + test.name(), dy,
                  to_layout(reference::gate_rows(routed, dout, values_of(c.gates), test.d), c.plan,
                            RowLayout::grouped));
      auto twice = reference::bias_gradient(
          routed, from_layout(values_of(dy), c.plan, RowLayout::grouped), test.d);
      for (double& value : twice) value *= 2;
      const Closeness closeness{.sum_length = c.plan.num_rows() + 1};
      check_close("dbias: " + test.name(), dbias, twice, closeness);
      check_close("bf16 dbias: " + test.name(), c.backward(DType::bf16).dbias, twice, closeness);
    }
}

TEST_CASE("combine's bits do not depend on the number of threads") {
  const CombineCase c({300, 3, 4, 70, 1}, DType::f32, RowLayout::grouped);
  check_thread_independence("combine", [&] {
    const auto [dgates, dy, dbias] = c.backward();
    return std::vector{c.out(true), c.dgates(), dgates, dy, dbias};
  });
}
