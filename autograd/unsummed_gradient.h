// UnsummedGradient: the gradient of a variable before it is summed over its uses. The op that
// computed the variable adds the parts up where its backward reads them, instead of reading a
// tensor that each use has added to.
#pragma once
#include "autograd/routing_plan.h"

namespace smoe {

class Parameter;

/// Filled during the backward pass by the ops that used the variable, x [T, D]; what finds its part
/// taken gives a tensor. GradientParts in kernels/norm.h has the formula.
struct UnsummedGradient {
  Tensor rows = {};             ///< [N, D], grouped by `plan`: a gradient per routed row
  RoutingPlan plan = {};        ///< of the rows
  Tensor dlogits = {};          ///< [T, E]: of x times the transposed weight
  Parameter* weight = nullptr;  ///< [E, D]
};

}  // namespace smoe
