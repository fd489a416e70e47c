#include "train/checkpoint_saver.h"

#include <algorithm>

#include "core/device.h"
#include "train/processor.h"

namespace smoe {
namespace {

bool rolls_back(const Config& config) {
  return config.train.on_nonfinite == NonfinitePolicy::rollback;
}

}  // namespace

CheckpointSaver::CheckpointSaver(const Config& config, const TrainingData& training, Ranks& ranks,
                                 Trainer& trainer, const CheckpointStore::Log& log)
    : ranks_(ranks),
      trainer_(trainer),
      header_{.device = current_stream().device().type == DeviceType::cpu ? "cpu" : "cuda",
              .config = Digest::from_hex(config_digest(config)),
              .data = training.digest(),
              .tokenizer = training.token_space().tokenizer,
              .processor = processor_of(current_stream().device())},
      store_({.folder = RunPaths(config.run.folder()).checkpoints_path(),
              .keep = config.checkpoint.keep,
              .keep_every = config.checkpoint.keep_every,
              .keep_newest_of_every = rolls_back(config) ? config.checkpoint.every : 0},
             log),
      is_async_(config.checkpoint.async),
      every_(config.checkpoint.every),
      every_minutes_(config.checkpoint.every_minutes) {
  if (is_async_ && ranks_.is_first()) background_.emplace(store_.options(), log);
}

CheckpointHeader CheckpointSaver::header() const {
  CheckpointHeader header = header_;
  header.step = trainer_.steps_done();
  return header;
}

ShardWriters CheckpointSaver::writers() {
  if (!trainer_.is_sharded()) return {};
  return {.index = ranks_.rank(), .count = ranks_.world_size(), .barrier = [this] {
            ranks_.communicator().barrier()->wait();
          }};
}

void CheckpointSaver::save() {
  if (is_saved()) return;
  ranks_.expect_long_wait();
  if (is_async_) {
    start();
  } else {
    if (ranks_.is_first() || trainer_.is_sharded()) store_.save(header(), visit_state(), writers());
    ranks_.communicator().barrier()->wait();
  }
  saved_step_ = trainer_.steps_done();
  last_end_ = Clock::now();
}

// Rank 0 copies and saves the whole state; visiting sharded state gathers it from all ranks.
void CheckpointSaver::start() {
  if (background_) {
    background_->start(header(), visit_state());
  } else if (trainer_.is_sharded()) {
    StateCopy::participate(visit_state());
  }
}

void CheckpointSaver::poll() {
  if (!background_ || !background_->is_saving()) return;
  background_->poll();
  if (!background_->is_saving()) last_end_ = Clock::now();
}

void CheckpointSaver::wait() {
  if (!is_async_) return;
  ranks_.expect_long_wait();
  if (background_) background_->wait();
}

std::optional<std::int64_t> CheckpointSaver::load(const std::string& selection) {
  return selection == "auto" && ranks_.are_several() ? load_newest(1) : load_selected(selection);
}

std::optional<std::int64_t> CheckpointSaver::load_for_rollback() {
  return load_newest(std::max<std::int64_t>(every_, 1));
}

std::optional<std::int64_t> CheckpointSaver::load_newest(std::int64_t every) {
  ranks_.expect_long_wait();
  std::optional<Checkpoint> newest;
  if (ranks_.is_first()) newest = store_.newest_intact(every);
  return load_selected(ranks_.broadcast(newest ? newest->path() : "none"));
}

std::optional<std::int64_t> CheckpointSaver::load_selected(const std::string& selected) {
  std::optional<std::int64_t> step;
  if (ranks_.is_first()) {
    step = store_.resume(selected, header(), visit_state());
  } else if (selected != "none") {  // rank 0 verifies it and compares its header
    const Checkpoint checkpoint(selected);
    checkpoint.load(visit_state());
    step = checkpoint.manifest().step;
  }
  if (!step) return step;
  trainer_.state_loaded();
  saved_step_ = *step;
  return step;
}

void CheckpointSaver::keep(std::int64_t step) {
  store_.keep(step);
  if (background_) background_->keep(step);
}

bool CheckpointSaver::is_due() const {
  const bool is_saving = background_ && background_->is_saving();
  return every_minutes_.count() > 0 && !is_saving && !is_saved() &&
         Clock::now() - last_end_ >= every_minutes_;
}

}  // namespace smoe
