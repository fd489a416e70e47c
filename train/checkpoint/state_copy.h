// StateCopy: a snapshot of state on the host, to be read while training changes the original.
#pragma once
#include <functional>
#include <string>
#include <variant>
#include <vector>

#include "core/state.h"

namespace smoe {

class StateCopy {
 public:
  /// Copies all state that `visit` passes. Waits for the device. Allocates as many bytes as the
  /// state has, on the host, counted as workspace.
  void take(const std::function<void(StateVisitor&)>& visit);
  /// Passes the copy to `visitor`, in the order and by the names that `take` saw.
  void visit(StateVisitor& visitor);
  /// Frees the copy.
  void clear() { values_.clear(); }

 private:
  struct RangeCopy {
    Shape shape;  // of the tensor
    std::int64_t begin;
    Tensor elements;
  };
  struct Value {
    std::string name;
    std::variant<Tensor, RangeCopy, std::int64_t, double> value;
  };
  class Recorder;

  std::vector<Value> values_;
};

}  // namespace smoe
