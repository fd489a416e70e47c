// Changes of a run's configuration between the checkpoint it resumes from and now.
#pragma once
#include <string>
#include <vector>

#include "train/config/config.h"

namespace smoe {

/// A key whose value differs from the one that a run was trained with.
struct KeyChange {
  std::string key;     ///< "optim.lr"
  std::string before;  ///< as YAML; "nothing" for a source that did not exist
  std::string after;

  friend bool operator==(const KeyChange&, const KeyChange&) = default;
};

/// The keys in which `now` differs from `trained`, of those that config_digest covers, in the order
/// of the schema; empty if the digests are equal.
std::vector<KeyChange> changes_between(const Config& trained, const Config& now);

/// The changes with which a run that was trained with `trained` for `step` steps may continue as
/// `now`. train.steps may grow where the learning rates of the steps done do not depend on it;
/// other changes need consent: `consent` lists keys, or sections that contain them. `place` stands
/// for the run in messages.
/// Throws: UsageError naming all keys that differ, unless each may change.
std::vector<KeyChange> accepted_changes(const Config& trained, const Config& now, std::int64_t step,
                                        const std::vector<std::string>& consent,
                                        const std::string& place);

/// Whether `consent` lists `key` or a section that contains it.
bool has_consent(const std::vector<std::string>& consent, const std::string& key);

/// What changes for a run at `step` besides the values themselves, one line each: the next
/// learning rate, the data, and where results stop being exact.
std::vector<std::string> consequences_of(const std::vector<KeyChange>& changes,
                                         const Config& trained, const Config& now,
                                         std::int64_t step);

/// Whether `now` differs from the configuration in the YAML text `trained` only in keys that may
/// change in a run, so that both describe the same model.
bool is_same_run(const std::string& trained, const Config& now);

/// The names in "train.steps,optim.lr". Throws: UsageError for one that is neither a key of
/// `config` nor a section.
std::vector<std::string> parse_consent(const std::string& text, const Config& config);

}  // namespace smoe
