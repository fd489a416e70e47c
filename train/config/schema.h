// What a configuration may say: every key with its place, rule and meaning, and the rules between
// keys. Parsing, printing, overrides, messages and digests all follow these two tables.
#pragma once
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "train/config/config.h"
#include "train/config/value.h"

namespace smoe {

/// What a value must satisfy beyond its type.
struct Rule {
  std::string text;  ///< completes "must be ...": "at least 1"; empty if anything goes
  std::function<bool(const Slot&)> holds;
};

/// Whether a resumed run must have a key's value in common with the run that wrote the checkpoint.
enum class Resume : bool { must_match, may_change };

/// One key. A key whose default breaks its own rule is one that every file must give.
struct Field {
  std::string key;  ///< "optim.lr"
  Slot slot;
  Rule rule;
  std::string_view meaning;
  Resume resume = Resume::must_match;
};

/// All keys in the order of printing, bound to the members of `config`.
std::vector<Field> fields_of(Config& config);

/// The section whose own sections have names of the user's choice: each is one of data.sources.
inline constexpr std::string_view kSourcesSection = "data.sources";

/// Adds the source that `key` names or lies in to `config` if it is not there, so that it has
/// fields: those from an earlier fields_of are no longer bound. Returns what the name must be when
/// it cannot be one; empty otherwise, also for keys outside of data.sources.
std::string add_source_of(std::string_view key, Config& config);

/// A rule that ties `key` to other keys.
struct Relation {
  std::string_view key;
  bool holds;
  std::string text;  ///< completes "must be ..."
};

/// All relations for a config whose fields keep their own rules.
std::vector<Relation> relations_of(const Config& config);

}  // namespace smoe
