// The schema of a configuration: every key with its storage, rule and meaning, and the relations
// between keys. Parsing, printing, overrides, messages and digests are driven by these two tables.
#pragma once
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "train/config/config.h"
#include "train/config/value.h"

namespace smoe {

/// A constraint on a value beyond its type.
struct Rule {
  std::string text;  ///< completes "must be ...": "at least 1"; empty if there is no constraint
  std::function<bool(const ValueRef&)> holds;
};

/// Whether a key may change between the run that wrote a checkpoint and one that resumes from it.
/// Those that may not, or only with consent, are in config_digest.
enum class Resume : std::uint8_t { must_match, with_consent, may_change };

/// One key. A key is required if its default violates its own rule.
struct Field {
  std::string key;  ///< "optim.lr"
  ValueRef target;
  Rule rule;
  std::string_view meaning;
  Resume resume = Resume::must_match;
  /// The value, as YAML, with which config_digest omits the key: what it was before the key
  /// existed.
  std::string undigested = {};
};

/// All keys in printing order, bound to the members of `config`.
std::vector<Field> fields_of(Config& config);

/// Whether a key chooses the kind of attention or MLP, on which fields_of depends.
bool is_kind_key(std::string_view key);

/// The section whose subsections have user-chosen names, one per data source.
inline constexpr std::string_view kSourcesSection = "data.sources";

/// Adds the source that contains `key` to `config` if it does not exist yet, which invalidates
/// fields of an earlier fields_of. Returns the rule that the name violates; empty otherwise, also
/// for keys outside data.sources.
std::string add_source_of(std::string_view key, Config& config);

/// A rule that relates `key` to other keys.
struct Relation {
  std::string_view key;
  bool holds;
  std::string text;  ///< completes "must be ..."
};

/// The relation that `train.global_batch` must satisfy for training on `num_ranks` ranks.
Relation global_batch_relation(const TrainConfig& train, int num_ranks);

/// All relations of a config, for one rank, if every field satisfies its own rule.
std::vector<Relation> relations_of(const Config& config);

}  // namespace smoe
