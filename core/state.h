// StateVisitor: how objects show what a checkpoint must hold. Each has one `visit_state(visitor)`
// that names its state; saving and loading are two visitors, so that neither can forget a member
// the other knows.
#pragma once
#include <cstdint>
#include <string_view>

#include "core/tensor.h"

namespace smoe {

class StateVisitor {
 public:
  virtual ~StateVisitor() = default;
  /// A tensor of fixed shape and dtype. A visitor that loads writes the elements in place: views of
  /// the same storage see them, and the handle keeps its storage.
  virtual void tensor(std::string_view name, Tensor& value) = 0;
  virtual void integer(std::string_view name, std::int64_t& value) = 0;
  virtual void real(std::string_view name, double& value) = 0;
};

}  // namespace smoe
