// StateCopy: state as it was at one moment, on the host, for whoever reads it while training
// changes the original.
#pragma once
#include <functional>
#include <string>
#include <variant>
#include <vector>

#include "core/state.h"

namespace smoe {

class StateCopy {
 public:
  /// Copies all that `visit` shows. Waits for the device. Memory: as many bytes as the state has,
  /// on the host, counted as workspace.
  void take(const std::function<void(StateVisitor&)>& visit);
  /// Lets `visit` show all without keeping any of it: for ranks that must take part where another
  /// one takes the copy.
  static void show(const std::function<void(StateVisitor&)>& visit);
  /// Shows the copy, in the order and by the names that `take` saw.
  void visit(StateVisitor& visitor);
  /// Forgets all and frees its memory.
  void clear() { values_.clear(); }

 private:
  struct Value {
    std::string name;
    std::variant<Tensor, std::int64_t, double> value;
  };
  class Taker;

  std::vector<Value> values_;
};

}  // namespace smoe
