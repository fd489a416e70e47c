#include "train/bench/row_copies.h"

#include <utility>

#include "autograd/ops/views.h"
#include "core/device.h"

namespace smoe {
namespace {

Tensor copy_rows(const kernels::RoutingView& routing, const Tensor& x, const Tensor& gates) {
  const Tensor rows = Tensor::empty({routing.num_rows(), x.dim(1)}, x.dtype());
  kernels::group(launch(), {.routing = routing,
                            .x = matrix_of(x),
                            .gates = data_or_null(gates),
                            .grouped = matrix_of(rows)});
  return rows;
}

}  // namespace

Tensor grouped_copy(const RoutingPlan& plan, const Tensor& x, const Tensor& gates) {
  return copy_rows(view_of(plan), x, gates);
}

// The inverse of a grouped copy, by the inverse indices.
Tensor scattered_copy(const RoutingPlan& plan, const Tensor& rows) {
  kernels::RoutingView inverse = view_of(plan);
  inverse.num_tokens = plan.num_rows();
  inverse.top_k = 1;
  std::swap(inverse.sorted_scattered_ids, inverse.grouped_rows);
  return copy_rows(inverse, rows, {});
}

}  // namespace smoe
