#include "train/data/training_data.h"

#include <fmt/format.h>

#include <algorithm>
#include <numeric>

#include "core/system/folder.h"
#include "train/data/blend_schedule.h"

namespace smoe {

std::string path_key_of(const DataSource& source) {
  return concat("data.sources.", source.name, ".path");
}

std::string missing_set(const DataConfig& config) {
  std::vector<std::string> paths;
  if (config.sources.empty()) paths.push_back(config.path);
  for (const DataSource& source : config.sources) paths.push_back(source.path);
  const auto missing = std::find_if(paths.begin(), paths.end(), [](const std::string& path) {
    return kind_of(path) == PathKind::none;
  });
  return missing == paths.end() ? "" : *missing;
}

TrainingData::TrainingData(std::vector<BlendedSet> sets) : sets_(std::move(sets)) {
  SMOE_CHECK(!sets_.empty(), "training data: must have at least one token set");
  const TokenSpace space = token_space();
  for (const BlendedSet& blended : sets_) check_token_set(blended.set, space);
}

TrainingData TrainingData::open(const DataConfig& config) {
  std::vector<BlendedSet> sets;
  if (config.sources.empty())
    sets.push_back({"", open_first_token_set("data.path", config.path), 1});
  for (const DataSource& source : config.sources)
    sets.push_back(
        {source.name, open_first_token_set(path_key_of(source), source.path), source.weight});
  return TrainingData(std::move(sets));
}

std::int64_t TrainingData::num_tokens(Split split) const {
  return std::accumulate(sets_.begin(), sets_.end(), std::int64_t{0},
                         [&](std::int64_t sum, const BlendedSet& blended) {
                           return sum + blended.set.num_tokens(split);
                         });
}

Digest TrainingData::digest() const {
  if (sets_.front().name.empty()) return sets_.front().set.digest();
  std::string text;
  for (const auto& [name, set, weight] : sets_)
    text += concat(name, ": ", set.digest().hex(), "\n");
  return digest_of(text);
}

std::vector<double> TrainingData::weights() const {
  std::vector<double> weights;
  for (const BlendedSet& set : sets_) weights.push_back(set.weight);
  return weights;
}

std::string TrainingData::summary() const {
  if (sets_.size() == 1) return sets_.front().set.path();
  const BlendSchedule blend(weights());
  std::string text = fmt::format("{} sets", sets_.size());
  for (std::size_t i = 0; i < sets_.size(); ++i)
    text += fmt::format("{} {} {:.3g}%", i == 0 ? ":" : ",", sets_[i].name, 100 * blend.share(i));
  return text;
}

}  // namespace smoe
