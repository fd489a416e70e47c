// Ops that only move elements: reshape, and columns of several matrices side by side.
#include <numeric>

#include "autograd/ops.h"
#include "autograd/ops/views.h"
#include "autograd/tape.h"
#include "core/device.h"
#include "kernels/copy_matrix.h"

namespace smoe {

Variable reshape(const Variable& x, const Shape& shape) {
  Tensor y = x.data().reshape(shape);
  return record(
      "reshape", std::move(y), {&x}, {},
      [from = x.shape()](Tensor dy, InputGradients& out) { out.give(0, dy.reshape(from)); });
}

namespace {

std::int64_t total_of(std::span<const std::int64_t> widths) {
  return std::accumulate(widths.begin(), widths.end(), std::int64_t{0});
}

Tensor join_columns(std::span<const Tensor> parts, std::int64_t num_rows, DType dtype,
                    std::span<const std::int64_t> widths) {
  Tensor all = Tensor::empty({num_rows, total_of(widths)}, dtype);
  std::int64_t first = 0;
  for (std::size_t i = 0; i < parts.size(); first += widths[i++]) {
    // A gradient that nothing reached is undefined and counts as zero.
    const Tensor part = parts[i].defined() ? parts[i] : Tensor::zeros({num_rows, widths[i]}, dtype);
    kernels::copy_matrix(launch(), {matrix_of(part), matrix_of(all).columns(first, widths[i])});
  }
  return all;
}

std::vector<Tensor> copy_columns(const Tensor& all, std::span<const std::int64_t> widths) {
  std::vector<Tensor> parts;
  std::int64_t first = 0;
  for (const std::int64_t width : widths) {
    parts.push_back(Tensor::empty({all.dim(0), width}, all.dtype()));
    kernels::copy_matrix(launch(), {matrix_of(all).columns(first, width), matrix_of(parts.back())});
    first += width;
  }
  return parts;
}

}  // namespace

Variable concat_columns(std::span<const Variable> parts) {
  SMOE_CHECK(!parts.empty(), "concat_columns: must have at least one matrix; got none");
  std::vector<const Variable*> inputs;
  std::vector<Tensor> tensors;
  std::vector<std::int64_t> widths;
  for (const Variable& part : parts) {
    SMOE_CHECK(part.shape().rank() == 2 && part.dim(0) == parts[0].dim(0) &&
                   part.dtype() == parts[0].dtype(),
               "concat_columns: matrices must have the same rows and dtype; got ", part.shape(),
               " ", name_of(part.dtype()), " beside ", parts[0].shape(), " ",
               name_of(parts[0].dtype()));
    inputs.push_back(&part);
    tensors.push_back(part.data());
    widths.push_back(part.dim(1));
  }
  Tensor all = join_columns(tensors, parts[0].dim(0), parts[0].dtype(), widths);
  return record_outputs("concat_columns", {std::move(all)},
                        std::span<const Variable* const>(inputs), {},
                        [widths](std::vector<Tensor> dys, InputGradients& out) {
                          std::vector<Tensor> parts = copy_columns(dys[0], widths);
                          for (std::size_t i = 0; i < parts.size(); ++i)
                            if (out.wants(static_cast<int>(i)))
                              out.give(static_cast<int>(i), std::move(parts[i]));
                        })[0];
}

std::vector<Variable> split_columns(const Variable& x, std::span<const std::int64_t> widths) {
  SMOE_CHECK(x.shape().rank() == 2 && !widths.empty(),
             "split_columns: x must be a matrix and there must be at least one width; got ",
             x.shape(), " and ", widths.size(), " widths");
  bool are_positive = true;
  for (const std::int64_t width : widths) are_positive = are_positive && width > 0;
  SMOE_CHECK(are_positive && total_of(widths) == x.dim(1),
             "split_columns: widths must be positive and add up to the columns of x ", x.shape(),
             "; got ", widths.size(), " widths that add up to ", total_of(widths));
  const Variable* inputs[] = {&x};
  return record_outputs(
      "split_columns", copy_columns(x.data(), widths), std::span<const Variable* const>(inputs), {},
      [widths = std::vector<std::int64_t>(widths.begin(), widths.end()), num_rows = x.dim(0),
       dtype = x.dtype()](std::vector<Tensor> dys, InputGradients& out) {
        out.give(0, join_columns(dys, num_rows, dtype, widths));
      });
}

}  // namespace smoe
