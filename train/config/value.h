// Typed places for configuration values: reading them strictly from text and printing them back.
#pragma once
#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "core/base/check.h"

namespace smoe {

/// Values of a type with their names.
template <class T>
using Names = std::vector<std::pair<std::string_view, T>>;

/// A variable that takes one of a few named values.
struct Choice {
  std::vector<std::string_view> names;
  std::function<std::size_t()> get;         ///< index into names of the present value
  std::function<void(std::size_t)> assign;  ///< makes the value of names[index] the present one
};

/// `target` as a Choice between `options`.
template <class T>
Choice choice(T& target, const Names<T>& options) {
  Choice result;
  for (const auto& [name, value] : options) result.names.push_back(name);
  result.get = [&target, options] {
    std::size_t index = 0;
    while (index < options.size() && options[index].second != target) ++index;
    SMOE_INTERNAL_CHECK(index < options.size(), "choice: value has no name");
    return index;
  };
  result.assign = [&target, options](std::size_t index) { target = options.at(index).second; };
  return result;
}

/// Where a value of the configuration is stored; its alternative is the value's type.
using Slot = std::variant<std::int64_t*, double*, bool*, std::string*, Choice>;

/// A scalar as it was written. Quotes make it text, whatever is between them.
struct Scalar {
  std::string text;
  bool is_quoted = false;
};

/// Stores `scalar` in `slot`. Returns what the slot wants if the scalar is not of its type
/// ("an integer"), and then leaves the slot as it was; empty on success.
std::string assign(const Slot& slot, const Scalar& scalar);

/// The value in YAML, so that `assign` reads the same value back. Text is always quoted.
std::string to_yaml(const Slot& slot);

/// "an integer", "a number", "true or false", "text" or "one of a, b".
std::string type_of(const Slot& slot);

/// The scalar for a message, in quotes if it was written so or is empty.
std::string shown(const Scalar& scalar);

/// The names one after the other: "a, b, c".
std::string listed(const std::vector<std::string_view>& names);

}  // namespace smoe
