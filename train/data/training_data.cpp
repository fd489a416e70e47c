#include "train/data/training_data.h"

#include <fmt/format.h>

#include <algorithm>
#include <numeric>

#include "core/system/folder.h"

namespace smoe {
namespace {

std::vector<double> weights_of(const std::vector<BlendedSet>& sets) {
  std::vector<double> weights;
  for (const BlendedSet& set : sets) weights.push_back(set.weight);
  return weights;
}

}  // namespace

TokenSet open_token_set(const std::string& key, const std::string& path) {
  SMOE_CHECK(kind_of(path) != PathKind::none, key, ": there is no ", path,
             "; make it with `smoe prepare`");
  return TokenSet::open(path);
}

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
  SMOE_CHECK(!sets_.empty(), "training data: there must be a token set");
  const TokenSet& first = sets_.front().set;
  const Digest tokenizer = first.tokenizer()->digest();
  for (const auto& [name, set, weight] : sets_)
    SMOE_CHECK(set.tokenizer()->digest() == tokenizer, set.path(),
               ": must be made with the tokenizer of ", first.path(), ": ",
               first.tokenizer()->summary(), "; got ", set.tokenizer()->summary(),
               "; give the one to `smoe prepare --tokenizer` for the other");
}

TrainingData TrainingData::open(const DataConfig& config) {
  std::vector<BlendedSet> sets;
  if (config.sources.empty()) sets.push_back({"", open_token_set("data.path", config.path), 1});
  for (const DataSource& source : config.sources)
    sets.push_back({source.name, open_token_set(path_key_of(source), source.path), source.weight});
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

std::string TrainingData::summary() const {
  if (sets_.size() == 1) return sets_.front().set.path();
  const Blend blend(weights_of(sets_));
  std::string text = fmt::format("{} sets", sets_.size());
  for (std::size_t i = 0; i < sets_.size(); ++i)
    text += fmt::format("{} {} {:.3g}%", i == 0 ? ":" : ",", sets_[i].name, 100 * blend.share(i));
  return text;
}

TrainingSampler::TrainingSampler(const TrainingData& data, std::uint64_t seed, std::int64_t seq_len,
                                 std::int64_t global_batch)
    : data_(data), global_batch_(global_batch), blend_(weights_of(data.sets())) {
  for (const auto& [name, set, weight] : data.sets()) {
    const std::int64_t num_tokens = set.num_tokens(Split::train);
    SMOE_CHECK(seq_len < num_tokens, "train.seq_len: must be below the ", num_tokens,
               " training tokens of ", set.path(), "; got ", seq_len);
    samplers_.emplace_back(seed, num_tokens, seq_len, global_batch, name);
  }
}

std::vector<Sequence> TrainingSampler::batch(std::int64_t step) const {
  std::vector<Sequence> sequences;
  for (const auto& [source, index] : blend_.picks(step * global_batch_, global_batch_))
    sequences.push_back({&data_.sets()[source].set, samplers_[source].positions(index, 1).front()});
  return sequences;
}

}  // namespace smoe
