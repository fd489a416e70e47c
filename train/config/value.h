// Typed storage of configuration values: strict parsing from text, and printing.
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

/// The named values of a type.
template <class T>
using Names = std::vector<std::pair<std::string_view, T>>;

/// A variable that holds one of a few named values.
struct Choice {
  std::vector<std::string_view> names;
  std::function<std::size_t()> get;         ///< index into names of the current value
  std::function<void(std::size_t)> assign;  ///< sets the value of names[index]
};

/// A Choice that stores into `target`.
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

/// A typed reference to a configuration value.
using ValueRef = std::variant<std::int64_t*, double*, bool*, std::string*, Choice>;

/// A scalar as written. A quoted scalar is always text.
struct Scalar {
  std::string text;
  bool is_quoted = false;
};

/// Parses `scalar` into `target`. Returns the required type ("an integer") and leaves the target
/// unchanged if the scalar does not match; empty on success.
std::string assign(const ValueRef& target, const Scalar& scalar);

/// The value as YAML, which `assign` parses to the same value. Text is always quoted.
std::string to_yaml(const ValueRef& target);

/// "an integer", "a number", "true or false", "text" or "one of a, b".
std::string type_of(const ValueRef& target);

/// The scalar for messages, in quotes if it was quoted or is empty.
std::string shown(const Scalar& scalar);

/// The names, joined: "a, b, c".
std::string listed(const std::vector<std::string_view>& names);

}  // namespace smoe
