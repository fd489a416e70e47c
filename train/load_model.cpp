#include "train/load_model.h"

#include <iostream>

#include "core/system/folder.h"
#include "train/checkpoint/checkpoint_store.h"
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

}  // namespace

StoredModel open_model(const std::string& path) {
  const bool is_run = kind_of(RunPaths(path).config_path()) == PathKind::file;
  const RunPaths run(is_run ? path : parent_of(parent_of(path)));
  SMOE_CHECK(kind_of(run.config_path()) == PathKind::file, path,
             ": must be the folder of a run, or of a checkpoint in one");
  const bool has_tokenizer = kind_of(run.tokenizer_path()) != PathKind::none;
  return {load_config(run.config_path()),
          has_tokenizer ? load_tokenizer(run.tokenizer_path()) : nullptr,
          is_run ? newest_checkpoint(run) : Checkpoint(path)};
}

LoadedModel load_model(const std::string& path, bool trains) {
  StoredModel stored = open_model(path);
  LoadedModel loaded{.config = std::move(stored.config),
                     .tokenizer = std::move(stored.tokenizer),
                     .trainable = nullptr,
                     .step = stored.checkpoint.manifest().step};
  loaded.trainable = std::make_unique<TrainableModel>(loaded.config, trains);
  stored.checkpoint.load_part(
      [&](StateVisitor& visitor) { loaded.trainable->visit_state(visitor); });
  loaded.store().refresh_compute();
  return loaded;
}

}  // namespace smoe
