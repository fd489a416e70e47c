// Parameters as state: an arena (master weights, or moments of the optimizer that lie alike) shown
// to a visitor one named part at a time, so that a checkpoint knows no padding and no arena order.
#pragma once
#include <string_view>

#include "core/state.h"

namespace smoe {

class ParameterStore;

/// Shows the parts of every parameter of `store`, in arena order, as views of `arena`: one tensor
/// of the part's shape named `prefix` + part name. `arena` is [elements] in the store's layout.
/// After loading masters, ParameterStore::refresh_compute is the caller's to call.
/// Throws: UsageError unless the arena is as long as the store's.
void visit_parts(StateVisitor& visitor, const ParameterStore& store, const Tensor& arena,
                 std::string_view prefix);

}  // namespace smoe
