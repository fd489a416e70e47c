#include "train/resumption.h"

#include <algorithm>

#include "core/system/folder.h"
#include "train/config/run_paths.h"
#include "train/data/blend_schedule.h"

namespace smoe {
namespace {

std::vector<DataSource> sources_of(const Config& config) {
  if (config.data.sources.empty()) return {{"", config.data.path, 1}};
  return config.data.sources;
}

const BlendedSet* find_set(const TrainingData& data, const std::string& name) {
  const auto& sets = data.sets();
  const auto found = std::find_if(sets.begin(), sets.end(),
                                  [&](const BlendedSet& set) { return set.name == name; });
  return found == sets.end() ? nullptr : &*found;
}

// Whether `data` has the sets that a checkpoint of an earlier version was trained on: it records
// one digest for all of them.
bool has_trained_sets(const Manifest& manifest, const Config& trained, const TrainingData& data) {
  std::string text;
  for (const DataSource& source : sources_of(trained)) {
    const BlendedSet* set = find_set(data, source.name);
    if (!set) return false;
    if (source.name.empty()) return set->set.digest() == manifest.data_digest;
    text += concat(source.name, ": ", set->set.digest().hex(), "\n");
  }
  return digest_of(text) == manifest.data_digest;
}

// The sets as recorded, or none of whose digests is known to differ.
ManifestData recorded_data(const Manifest& manifest, const Config& trained,
                           const TrainingData& data) {
  if (manifest.data) return *manifest.data;
  const bool is_known = has_trained_sets(manifest, trained, data);
  ManifestData recorded;
  for (const DataSource& source : sources_of(trained)) {
    const BlendedSet* set = find_set(data, source.name);
    recorded.sources.push_back({source.name, is_known ? set->set.digest() : Digest{}, 0});
  }
  return recorded;
}

const ManifestSource* find_source(const ManifestData& recorded, const BlendedSet& set) {
  for (const ManifestSource& source : recorded.sources)
    if (source.name == set.name && source.digest == set.set.digest()) return &source;
  return nullptr;
}

std::string path_key(const std::string& source) {
  return source.empty() ? "data.path" : path_key_of({source, "", 0});
}

bool is_sampled_alike(const ManifestData& recorded, const Config& trained, const Config& now,
                      const TrainingData& data) {
  const std::vector<DataSource> before = sources_of(trained), after = sources_of(now);
  return trained.train.global_batch == now.train.global_batch &&
         std::equal(before.begin(), before.end(), after.begin(), after.end(),
                    [](const DataSource& a, const DataSource& b) {
                      return a.name == b.name && a.weight == b.weight;
                    }) &&
         std::all_of(data.sets().begin(), data.sets().end(),
                     [&](const BlendedSet& set) { return find_source(recorded, set) != nullptr; });
}

}  // namespace

Config trained_config(const Checkpoint& checkpoint, const Config& now) {
  const Manifest& manifest = checkpoint.manifest();
  if (!manifest.config.empty()) return parse_config(manifest.config, checkpoint.path());
  const auto has_digest = [&](const Config& config) {
    return Digest::from_hex(config_digest(config)) == manifest.config_digest;
  };
  if (has_digest(now)) return now;
  const RunPaths run(parent_of(parent_of(checkpoint.path())));
  if (kind_of(run.config_path()) == PathKind::file) {
    Config config = load_config(run.config_path());
    if (has_digest(config)) return config;
  }
  throw UsageError(concat(checkpoint.path(), ": was trained with another configuration, which ",
                          run.config_path(), " does not have; restore that file"));
}

std::vector<KeyChange> accepted_resumption(const Checkpoint& checkpoint, const Config& trained,
                                           const Config& now, const TrainingData& data,
                                           const std::vector<std::string>& consent) {
  const Manifest& manifest = checkpoint.manifest();
  const std::string place = now.run.folder();
  std::vector<KeyChange> changes = accepted_changes(trained, now, manifest.step, consent, place);
  const ManifestData recorded = recorded_data(manifest, trained, data);
  for (const BlendedSet& set : data.sets()) {
    const auto had_name = [&](const auto& source) { return source.name == set.name; };
    const bool is_new = std::none_of(recorded.sources.begin(), recorded.sources.end(), had_name);
    if (is_new || find_source(recorded, set)) continue;
    const std::string key = path_key(set.name);
    SMOE_CHECK(has_consent(consent, key), place, ": cannot resume with ", set.set.path(), " as ",
               key, ": it has other contents than the token set that was trained on; restore that ",
               "one, or continue on this one from its start with --change ", key);
    changes.push_back({key, "the set trained on until then", set.set.path()});
  }
  return changes;
}

DataStart resumed_data_start(const Manifest& manifest, const Config& trained, const Config& now,
                             const TrainingData& data) {
  const ManifestData recorded = recorded_data(manifest, trained, data);
  const bool is_same = is_sampled_alike(recorded, trained, now, data);
  const auto skipped = manifest.integers.find("skipped_data_steps");
  const std::int64_t batch =
      manifest.step + (skipped == manifest.integers.end() ? 0 : skipped->second);
  std::vector<double> weights;
  for (const DataSource& source : sources_of(trained)) weights.push_back(source.weight);
  std::vector<std::int64_t> taken(weights.size());
  if (!is_same)
    taken =
        BlendSchedule(weights).counts_before((batch - recorded.batch) * trained.train.global_batch);
  SMOE_CHECK(taken.size() == recorded.sources.size(), "checkpoint: must record the ", taken.size(),
             " training sets of its configuration; got ", recorded.sources.size());
  DataStart start{recorded.step, recorded.tokens, {recorded.batch, {}}};
  if (!is_same)
    start = {manifest.step,
             recorded.tokens + (manifest.step - recorded.step) * trained.train.global_batch *
                                   trained.train.seq_len,
             {batch, {}}};
  for (const BlendedSet& set : data.sets()) {
    const ManifestSource* source = find_source(recorded, set);
    const std::int64_t more = source ? taken[source - recorded.sources.data()] : 0;
    start.sampling.counts.push_back(source ? source->samples + more : 0);
  }
  return start;
}

ManifestData manifest_data(const DataStart& start, const TrainingData& data) {
  ManifestData recorded{start.step, start.sampling.batch, start.tokens, {}};
  for (std::size_t i = 0; i < data.sets().size(); ++i) {
    const BlendedSet& set = data.sets()[i];
    recorded.sources.push_back({set.name, set.set.digest(), start.sampling.counts[i]});
  }
  return recorded;
}

}  // namespace smoe
