// Ops without a kernel test of their own on the GPU: forward and backward against the CPU's.
#include "autograd/ops.h"

#include <doctest/doctest.h>

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
