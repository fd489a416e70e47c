// Copies of routed rows from one order to the other: what ParallelLinear does without.
#pragma once
#include "autograd/routing_plan.h"

namespace smoe {

/// Rows [N, D] in grouped order of x, scattered [N, D] or [T, D]; each times its gate unless
/// `gates` is undefined.
Tensor grouped_copy(const RoutingPlan& plan, const Tensor& x, const Tensor& gates = {});

/// Rows [N, D] in scattered order of grouped ones.
Tensor scattered_copy(const RoutingPlan& plan, const Tensor& rows);

}  // namespace smoe
