// Ops without a kernel test of their own on the GPU: forward and backward against the CPU's.
#include "autograd/ops.h"

#include <doctest/doctest.h>

#include "autograd/gradient_step.h"
#include "autograd/rotary_table.h"
#include "autograd/tape.h"
#include "tests/support/cuda.h"

using namespace smoe;
using namespace smoe::test;

namespace {

using Op = std::function<Variable(const std::vector<Variable>&)>;

// The op's output and the gradients of its inputs, for a given gradient of the output.
std::vector<Result> run(const Op& op, const std::vector<Shape>& shapes, DType dtype,
                        const Closeness& closeness) {
  Tape tape;
  const TapeScope scope(tape);
  std::vector<Variable> inputs;
  for (std::size_t i = 0; i < shapes.size(); ++i)
    inputs.push_back(tape.watch(random_normal(concat("input ", i), shapes[i], dtype)));
  const Variable y = op(inputs);
  const WatchedGradients gradients =
      tape.backward({y}, {random_normal("dy", y.shape(), y.dtype())});
  std::vector<Result> results{{"y", y.data(), closeness}};
  for (const Variable& input : inputs) results.push_back({"dx", gradients.of(input), closeness});
  return results;
}

void check_op(const char* name, const std::vector<Shape>& shapes, const Op& op,
              const Closeness& closeness = {}) {
  for (const DType dtype : {DType::f32, DType::bf16})
    check_on_gpu(concat(name, " ", name_of(dtype)),
                 [&] { return run(op, shapes, dtype, closeness); });
}

}  // namespace

TEST_CASE("shape and elementwise ops on the GPU agree with the CPU's") {
  for (const std::int64_t rows : {1, 7, 1025}) {
    const Shape a{rows, 3}, b{rows, 8}, c{rows, 16};
    check_op("reshape", {b}, [&](const auto& x) { return reshape(x[0], {8, rows}); });
    check_op("concat_columns", {a, b, c}, [](const auto& x) { return concat_columns(x); });
    check_op("split_columns", {c}, [](const auto& x) {
      return split_columns(x[0], std::vector<std::int64_t>{1, 8, 7})[1];
    });
    check_op("scale", {c}, [](const auto& x) { return scale(x[0], 0.7); });
    check_op("dropout", {c}, [](const auto& x) { return dropout(x[0], 0.3, 1, 2, 3); });
  }
}

TEST_CASE("losses on the GPU agree with the CPU's") {
  for (const std::int64_t rows : {1, 7, 1025}) {
    const Shape x{rows, 16};
    // Sums of both signs are held to the magnitude of their terms.
    const Closeness closeness{.sum_length = rows * 16,
                              .slack = unit_roundoff(DType::f32) * double(rows * 16)};
    check_op(
        "sum", {x}, [](const auto& in) { return sum(in[0]); }, closeness);
    check_op("mean_squared_error", {x}, [&](const auto& in) {
      return mean_squared_error(in[0], random_normal("target", x, in[0].dtype()));
    });
    check_op("softmax_cross_entropy", {x}, [&](const auto& in) {
      std::vector<std::int32_t> targets;
      for (std::int64_t i = 0; i < rows; ++i)
        targets.push_back(i % 7 == 3 ? -1 : static_cast<std::int32_t>(i * 5 % 16));
      return softmax_cross_entropy(in[0], Tensor::from(targets, {rows}), 0.5);
    });
  }
}

TEST_CASE("attention of queries and keys apart on the GPU agrees with the CPU's") {
  for (const std::int64_t head_dim : {12, 64}) {
    const AttentionShape shape{2, 65, 4, 2, head_dim};
    check_op("causal_attention apart",
             {{shape.num_tokens(), shape.output_width()}, {shape.num_tokens(), shape.kv_width()}},
             [&](const auto& x) { return causal_attention(x[0], x[1], shape); },
             {.sum_length = shape.seq_len, .slack = unit_roundoff(DType::bf16) * 4});
  }
}

// Large enough for one GEMM with rotary embedding on Hopper. The CPU's parts round the projection
// before they rotate it.
TEST_CASE("a projection with rotary embedding on the GPU agrees with the CPU's") {
  for (const DType dtype : {DType::f32, DType::bf16})
    check_on_gpu(concat("rotary_linear ", name_of(dtype)), [&]() -> std::vector<Result> {
      const AttentionShape shape{
          .batch = 36, .seq_len = 115, .num_heads = 5, .num_kv_heads = 1, .head_dim = 128};
      constexpr std::int64_t kWidth = 40;
      Parameter weight("weight", {shape.packed_width(), kWidth}, Init::normal(0.3));
      ParameterStore store({&weight}, {.compute = dtype, .seed = 3});
      const auto table = std::make_shared<RotaryTable>();
      Tape tape;
      const TapeScope scope(tape);
      GradientStep step(store);
      const Variable x = tape.watch(random_normal("x", {shape.num_tokens(), kWidth}, dtype));
      const Variable y = rotary_linear(x, weight, shape, 10000, 7, table);
      const Variable again = rotary_linear(x, weight, shape, 10000, 7, table);
      const Variable loss = mean_squared_error(y, random_normal("target", y.shape(), dtype));
      const Tensor dx = step.backward(tape, loss).of(x);
      step.finish();
      const double u = unit_roundoff(dtype);
      const Closeness close{.sum_length = kWidth, .slack = u * largest(values_of(y.data()))};
      return {
          {"y", y.data(), close},
          {"y by the kept table", again.data(), close},
          {"dx", dx, {.sum_length = y.dim(1), .slack = u * largest(values_of(dx))}},
          {"dweight",
           weight.gradient(),
           {.sum_length = shape.num_tokens(), .slack = u * largest(values_of(weight.gradient()))}}};
    });
}

TEST_CASE("gradients beside frozen weights on the GPU agree with the CPU's") {
  for (const DType dtype : {DType::f32, DType::bf16})
    check_on_gpu(concat("frozen ", name_of(dtype)), [&]() -> std::vector<Result> {
      constexpr std::int64_t kTokens = 70, kWidth = 24, kExperts = 4;
      Parameter norm("norm", {kWidth}, Init::constant(1.5),
                     {.full_precision = true, .trains = false}),
          experts("experts", {kExperts, 16, kWidth}, Init::normal(0.3), {.trains = false}),
          bias("bias", {kExperts, 16}, Init::normal(1)),
          out("out", {9, 16}, Init::normal(0.3), {.trains = false});
      ParameterStore store({&norm, &experts, &bias, &out}, {.compute = dtype, .seed = 3});
      std::vector<std::int32_t> ids;
      for (std::int32_t t = 0; t < kTokens; ++t) {
        ids.push_back(t % 3);
        ids.push_back(3);
      }
      const RoutingPlan plan = plan_routing(Tensor::from(ids, {kTokens, 2}), kExperts);
      const Variable gates(random_normal("gates", {kTokens, 2}, DType::f32));
      Tape tape;
      const TapeScope scope(tape);
      GradientStep step(store);
      const Variable x = tape.watch(random_normal("x", {kTokens, kWidth}, dtype));
      const Variable rows =
          parallel_linear(rms_norm(x, norm, 1e-5), experts, plan, {.bias = &bias}, gates);
      const Variable y = linear(rows, out);
      const Variable loss = mean_squared_error(y, Tensor::zeros(y.shape(), dtype));
      const Tensor dx = step.backward(tape, loss).of(x);
      step.finish();
      const double u = unit_roundoff(dtype);
      return {{"y", y.data(), {.sum_length = 64, .slack = u}},
              {"dx", dx, {.sum_length = 64, .slack = u}},
              {"dbias", bias.gradient(), {.sum_length = kTokens, .slack = u}}};
    });
}
