// The strict subset of YAML that a configuration is written in: nested maps of scalars, in UTF-8.
// Refused, though yaml-cpp accepts them: duplicate keys (it keeps the first), aliases and anchors
// (they can be cyclic or expand without bound), tags, merge keys, multiple documents.
#pragma once
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "train/config/value.h"

namespace smoe {

inline constexpr std::int64_t kMaxConfigBytes = std::int64_t{1} << 20;
inline constexpr int kMaxConfigLevels = 32;

/// One key and its value as written.
struct Setting {
  enum class Kind : std::uint8_t { scalar, section, nothing };

  std::string place;  ///< for messages: "configs/a.yaml:14" or "override 'optim.lr=1'"
  std::string key;    ///< the full path: "optim.lr"
  Kind kind = Kind::scalar;
  Scalar value{};  ///< if kind is scalar
};

/// All keys of a YAML text in file order, each section before its contents. `name` stands for the
/// file in messages. Throws: UsageError `name:line: ...` for the first violation of the subset.
std::vector<Setting> read_settings(std::string_view yaml, const std::string& name);

/// The setting in "optim.lr=0.001"; everything after the first '=' is the value.
/// Throws: UsageError if the key or the '=' is missing.
Setting read_override(const std::string& text);

}  // namespace smoe
