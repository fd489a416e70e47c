// The strict part of YAML that a configuration is written in: nested maps of scalars, in UTF-8.
// What yaml-cpp would accept silently is refused here: duplicate keys (it keeps the first), aliases
// and anchors (they can be cyclic or grow without bound), tags, merge keys, several documents.
#pragma once
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "train/config/value.h"

namespace smoe {

inline constexpr std::int64_t kMaxConfigBytes = std::int64_t{1} << 20;
inline constexpr int kMaxConfigLevels = 32;

/// One key with what was written for it.
struct Setting {
  enum class Kind : std::uint8_t { scalar, section, nothing };

  std::string place;  ///< for messages: "configs/a.yaml:14" or "override 'optim.lr=1'"
  std::string key;    ///< with the sections it stands in: "optim.lr"
  Kind kind = Kind::scalar;
  Scalar value{};  ///< of a scalar
};

/// All keys of a YAML text in its order, each section before what is in it. `name` stands for the
/// file in messages.
/// Throws: UsageError `name:line: ...` for the first thing that is not such a text.
std::vector<Setting> read_settings(std::string_view yaml, const std::string& name);

/// The setting in "optim.lr=0.001"; what follows the first '=' is taken as it is.
/// Throws: UsageError if there is no key or no '='.
Setting read_override(const std::string& text);

}  // namespace smoe
