// parallel_linear on the GPU: forward and backward against the CPU's, and where it copies rows.
#include <doctest/doctest.h>

#include "autograd/gradient_step.h"
#include "autograd/ops.h"
#include "tests/support/cuda.h"
#include "tests/support/graphs.h"
#include "tests/support/moe_cases.h"

using namespace smoe;
using namespace smoe::test;

namespace {

struct Mode {
  RowLayout x, y;
  bool row_per_token = false, combines = false;
};
constexpr Mode kModes[] = {{RowLayout::grouped, RowLayout::scattered},
                           {RowLayout::scattered, RowLayout::grouped},
                           {RowLayout::scattered, RowLayout::scattered},
                           {RowLayout::scattered, RowLayout::scattered, true},
                           {RowLayout::grouped, RowLayout::grouped, false, true},
                           {RowLayout::scattered, RowLayout::scattered, false, true},
                           {RowLayout::scattered, RowLayout::scattered, true, true}};

struct Layer {
  Layer(const MoeCase& c, const Mode& m, DType dtype)
      : mode(m),
        plan(c.plan()),
        weight("w", {c.num_experts, c.f, c.d}, Init::normal(0.3)),
        bias("b", {c.num_experts, c.f}, Init::normal(1)),
        store({&weight, &bias}, {accumulation_dtype(dtype), dtype, 5}),
        x(random_normal("x", {m.row_per_token ? c.num_tokens : plan.num_rows(), c.d}, dtype)),
        gates(random_normal("gates", {c.num_tokens, c.top_k}, accumulation_dtype(dtype))),
        dy(random_normal("dy", {m.combines ? c.num_tokens : plan.num_rows(), c.f}, dtype)) {}

  Variable forward(const Variable& input, const Variable& by) {
    return parallel_linear(input, weight, plan, {mode.x, mode.y, &bias},
                           mode.combines ? by : Variable());
  }

  Mode mode;
  RoutingPlan plan;
  Parameter weight, bias;
  ParameterStore store;
  Tensor x, gates, dy;
};

std::vector<Result> run(const MoeCase& test, const Mode& mode, DType dtype) {
  Layer layer(test, mode, dtype);
  Tape tape;
  const TapeScope scope(tape);
  const Variable x = tape.watch(layer.x), gates = tape.watch(layer.gates);
  const Variable y = layer.forward(x, gates);
  const WatchedGradients gradients = tape.backward({y}, {layer.dy});
  // Rows in between are rounded to the dtype.
  const double slack = 8 * unit_roundoff(dtype);
  const std::int64_t n = layer.plan.num_rows();
  std::vector<Result> results{
      {"y", y.data(), {.sum_length = test.d + test.top_k, .slack = slack}},
      {"dx", gradients.of(x), {.sum_length = test.f + test.top_k, .slack = slack}},
      {"dw", layer.weight.gradient(), {.sum_length = n + 1, .slack = slack}},
      {"db", layer.bias.gradient(), {.sum_length = n + 1, .slack = slack}}};
  if (mode.combines)
    results.push_back({"dgates", gradients.of(gates), {.sum_length = test.f, .slack = 4 * slack}});
  return results;
}

}  // namespace

TEST_CASE("parallel_linear on the GPU agrees with the CPU's in every layout") {
  for (const DType dtype : {DType::bf16, DType::f32})
    for (const MoeCase& test : {MoeCase{70, 2, 4, 24, 40},
                                {70, 2, 4, 40, 24},
                                {37, 3, 5, 7, 13},
                                {300, 4, 9, 136, 72, Spread::ends_empty}})
      for (const Mode& mode : kModes)
        check_on_gpu(concat(test.name(), " ", name_of(dtype), " x ", static_cast<int>(mode.x),
                            " y ", static_cast<int>(mode.y), mode.row_per_token ? " tokens" : "",
                            mode.combines ? " gates" : ""),
                     [&] { return run(test, mode, dtype); });
}

TEST_CASE("two scattered operands: the copy of one lies in dx's memory, which adds no bytes") {
  const Stream dry(Device{DeviceType::dry_cuda, 0});  // allocates as a Hopper GPU does
  for (const ExpertKernels kernels : {ExpertKernels::automatic, ExpertKernels::portable})
    for (const auto& [d, f] : {std::pair<std::int64_t, std::int64_t>{64, 32}, {32, 64}})
      for (const Mode& mode : {kModes[2], kModes[3]})
        for (const bool x_is_shared : {false, true}) {
          const StreamGuard guard(dry, {.experts = kernels});
          Layer layer({128, 2, 4, d, f}, mode, DType::bf16);
          Tape tape;
          const TapeScope scope(tape);
          Variable x = copy_of(tape.watch(layer.x));
          const Tensor held = x_is_shared ? x.data() : Tensor();
          const Variable y = layer.forward(x, {});
          x = Variable();
          reset_peak_memory();
          const std::int64_t before = memory_use(Category::activations).now_bytes;
          tape.backward({y}, {layer.dy});
          const std::int64_t rows = layer.plan.num_rows() * d * 2;
          CAPTURE(mode.row_per_token);
          CAPTURE(x_is_shared);
          CHECK(memory_use(Category::activations).peak_bytes - before ==
                (x_is_shared ? layer.x.bytes() : 0) + (mode.row_per_token ? rows : 0));
          // Where dx goes over x, the copy has memory of its own.
          const bool over_x = !x_is_shared && !mode.row_per_token;
          const bool copies = kernels == ExpertKernels::automatic;
          CHECK(memory_use(Category::workspace).peak_bytes ==
                (copies && over_x ? layer.plan.num_rows() * std::min(d, f) * 2 : 0));
        }
}
