// The backward of a dense layer, for ops that compute its forward in one pass with others.
#pragma once
#include "autograd/parameter.h"
#include "autograd/variable.h"

namespace smoe {

/// Throws: UsageError unless x is [T, D_in] and the weight [D_out, D_in] in a dtype that fits.
void check_linear(const Variable& x, const Parameter& weight);
/// y [T, D_out] as an output of linear(x, weight).
Variable record_linear(const Variable& x, Parameter& weight, Tensor y);

}  // namespace smoe
