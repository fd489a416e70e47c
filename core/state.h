// StateVisitor: how objects expose the state that a checkpoint holds. Each has one
// `visit_state(visitor)` that names its state; saving and loading are both visitors, so neither can
// miss a member that the other handles.
#pragma once
#include <cstdint>
#include <string_view>

#include "core/tensor.h"

namespace smoe {

class StateVisitor {
 public:
  virtual ~StateVisitor() = default;
  /// A tensor of fixed shape and dtype. A loading visitor writes the elements in place: the handle
  /// keeps its storage, and views of it see the new elements.
  virtual void tensor(std::string_view name, Tensor& value) = 0;
  /// Elements [begin, begin + elements.numel()) of a tensor of `shape`, whose other elements other
  /// ranks hold; they may be all of it, or none. `elements` is of rank 1 and written in place as by
  /// tensor(). Visits the whole as tensor(). Throws: UsageError for less, unless the visitor
  /// implements it.
  virtual void range(std::string_view name, const Shape& shape, std::int64_t begin,
                     Tensor& elements);
  virtual void integer(std::string_view name, std::int64_t& value) = 0;
  virtual void real(std::string_view name, double& value) = 0;
};

}  // namespace smoe
