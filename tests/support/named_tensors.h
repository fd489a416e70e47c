// The tensors that a visit passes, by name, for comparison.
#pragma once
#include <map>
#include <string>
#include <vector>

#include "core/state.h"
#include "tests/support/tensors.h"

namespace smoe::test {

/// The values of the tensors that `visit(visitor)` visits. Numbers beside them are ignored.
template <class Visit>
std::map<std::string, std::vector<double>> tensors_of(Visit&& visit) {
  struct Collect final : StateVisitor {
    std::map<std::string, std::vector<double>> values;
    void tensor(std::string_view name, Tensor& value) override {
      values[std::string(name)] = values_of(value);
    }
    void integer(std::string_view, std::int64_t&) override {}
    void real(std::string_view, double&) override {}
  } collect;
  visit(collect);
  return collect.values;
}

}  // namespace smoe::test
