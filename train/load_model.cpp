#include "train/load_model.h"

#include <iostream>

#include "core/system/folder.h"
#include "train/base_digest.h"
#include "train/checkpoint/checkpoint_store.h"
#include "train/config/changes.h"
#include "train/config/run_paths.h"

namespace smoe {
namespace {

Checkpoint newest_checkpoint(const RunPaths& run) {
  const CheckpointStore store({.folder = run.checkpoints_path()},
                              [](const std::string& line) { std::cerr << line << std::endl; });
  std::optional<Checkpoint> newest = store.newest_intact();
  SMOE_CHECK(newest, run.path(), ": has no checkpoint yet; train it first");
  return std::move(*newest);
}

// The tokenizer that the checkpoint records; in checkpoints of earlier versions, the only one.
std::unique_ptr<Tokenizer> tokenizer_of(const RunPaths& run, const Manifest& manifest,
                                        std::int64_t vocab_size) {
  const std::string path = run.tokenizer_path(manifest.tokenizer_digest);
  if (path.empty()) return nullptr;
  auto tokenizer = load_tokenizer(path);
  SMOE_CHECK(tokenizer->vocab_size() <= vocab_size, path, ": must have at most the ", vocab_size,
             " tokens of the model; got ", tokenizer->vocab_size(),
             "; restore the tokenizer that it was trained with");
  return tokenizer;
}

void restore_base(const Checkpoint& checkpoint, LoadedModel& loaded) {
  const VisitState visit = [&](StateVisitor& v) { loaded.trainable->visit_base(v); };
  const std::string& from = loaded.config.train.init_from;
  if (!from.empty()) open_base(from).checkpoint.load_part(visit);
  check_base(checkpoint, base_digest(visit),
             from.empty() ? "the initial weights of its seed" : from);
}

}  // namespace

StoredModel open_base(const std::string& path) {
  try {
    return open_model(path);
  } catch (const UsageError& error) {
    throw UsageError(
        concat("train.init_from: the base that is not trained must be there; ", error.what()));
  }
}

StoredModel open_model(const std::string& path) {
  const bool is_run = kind_of(RunPaths(path).config_path()) == PathKind::file;
  const RunPaths run(is_run ? path : parent_of(parent_of(path)));
  SMOE_CHECK(kind_of(run.config_path()) == PathKind::file, path,
             ": must be the folder of a run, or of a checkpoint in one");
  Config config = load_config(run.config_path());
  Checkpoint checkpoint = is_run ? newest_checkpoint(run) : Checkpoint(path);
  checkpoint.check_config(run.config_path(), Digest::from_hex(config_digest(config)),
                          is_same_run(checkpoint.manifest().config, config));
  const std::int64_t vocab_size = config.model.vocab_size;
  auto tokenizer = tokenizer_of(run, checkpoint.manifest(), vocab_size);
  TokenSpace space{
      .vocab_size = vocab_size, .tokenizer = checkpoint.manifest().tokenizer_digest, .owner = path};
  if (tokenizer) space.tokenizer = tokenizer->digest();
  return {std::move(config), std::move(tokenizer), std::move(space), std::move(checkpoint)};
}

LoadedModel load_model(const std::string& path, bool trains) {
  return load_model(open_model(path), trains);
}

LoadedModel load_model(StoredModel stored, bool trains) {
  LoadedModel loaded{.config = std::move(stored.config),
                     .tokenizer = std::move(stored.tokenizer),
                     .token_space = std::move(stored.token_space),
                     .trainable = nullptr,
                     .step = stored.checkpoint.manifest().step};
  loaded.trainable = std::make_unique<TrainableModel>(loaded.config, trains);
  if (loaded.trainable->has_base()) restore_base(stored.checkpoint, loaded);
  stored.checkpoint.load_part(
      [&](StateVisitor& visitor) { loaded.trainable->visit_state(visitor); });
  return loaded;
}

}  // namespace smoe
