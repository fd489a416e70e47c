#include "train/checkpoint_saver.h"

#include <algorithm>

#include "core/device.h"
#include "core/system/folder.h"
#include "train/base_digest.h"
#include "train/processor.h"

namespace smoe {
namespace {

bool rolls_back(const Config& config) {
  return config.train.on_nonfinite == NonfinitePolicy::rollback;
}

}  // namespace

CheckpointSaver::CheckpointSaver(const Config& config, const TrainingData& training, Ranks& ranks,
                                 Trainer& trainer, const CheckpointStore::Log& log)
    : config_(config),
      training_(training),
      ranks_(ranks),
      trainer_(trainer),
      header_{.device = current_stream().device().type == DeviceType::cpu ? "cpu" : "cuda",
              .config = Digest::from_hex(config_digest(config)),
              .data = training.digest(),
              .tokenizer = training.token_space().tokenizer,
              .processor = processor_of(current_stream().device()),
              .config_text = to_yaml(config)},
      store_({.folder = RunPaths(config.run.folder()).checkpoints_path(),
              .keep = config.checkpoint.keep,
              .keep_every = config.checkpoint.keep_every,
              .keep_newest_of_every = rolls_back(config) ? config.checkpoint.every : 0},
             log),
      is_async_(config.checkpoint.async),
      every_(config.checkpoint.every),
      every_minutes_(config.checkpoint.every_minutes) {
  if (is_async_ && (ranks_.is_first() || trainer_.is_sharded()))
    background_.emplace(store_.options(), log);
}

// The base does not change once it is loaded, which it is before the first call.
CheckpointHeader CheckpointSaver::header() {
  if (!header_.base && trainer_.has_base())
    header_.base = base_digest([this](StateVisitor& v) { trainer_.visit_base(v); });
  CheckpointHeader header = header_;
  header.step = trainer_.steps_done();
  header.sampling = manifest_data(trainer_.data_start(), training_);
  return header;
}

void CheckpointSaver::check_base_of(const Checkpoint& checkpoint) {
  const std::string& from = config_.train.init_from;
  check_base(checkpoint, header().base, from.empty() ? "the initial weights of its seed" : from);
}

void CheckpointSaver::save() {
  if (is_saved()) return;
  ranks_.expect_long_wait();
  if (background_) background_->wait();
  if (trainer_.is_sharded()) {
    if (ranks_.is_first()) store_.begin(trainer_.steps_done());
    ranks_.communicator().barrier()->wait();
  }
  if (is_async_)
    start();
  else
    write();
  saved_step_ = trainer_.steps_done();
  last_end_ = Clock::now();
}

void CheckpointSaver::write() {
  const auto barrier = [this] { ranks_.communicator().barrier()->wait(); };
  if (trainer_.is_sharded())
    store_.save(header(), visit_state(),
                {.index = ranks_.rank(),
                 .count = ranks_.world_size(),
                 .await_others = [&](const auto&) { barrier(); }});
  else if (ranks_.is_first())
    store_.save(header(), visit_state());
  barrier();
}

void CheckpointSaver::start() {
  if (!background_) return;
  if (trainer_.is_sharded())
    background_->start(header(), visit_state(), ranks_.rank(), ranks_.world_size());
  else
    background_->start(header(), visit_state());
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

std::optional<std::int64_t> CheckpointSaver::load(const std::string& selection,
                                                  const std::vector<std::string>& consent) {
  consent_ = consent;
  return selection == "auto" && ranks_.are_several() ? load_newest(1) : load_selected(selection);
}

// A run that changed may go back to before it did.
std::optional<std::int64_t> CheckpointSaver::load_for_rollback() {
  consent_ = {"train", "optim", "schedule", "model.router", "data"};
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
  Manifest manifest;
  if (ranks_.is_first()) {
    step = store_.resume(selected, header(), visit_state(), [&](const Checkpoint& checkpoint) {
      trained_ = trained_config(checkpoint, config_);
      changes_ = accepted_resumption(checkpoint, trained_, config_, training_, consent_);
      check_base_of(checkpoint);
      manifest = checkpoint.manifest();
    });
  } else if (selected != "none") {  // rank 0 verifies it and compares its configuration
    const Checkpoint checkpoint(selected);
    check_base_of(checkpoint);
    checkpoint.load(visit_state());
    step = checkpoint.manifest().step;
    manifest = checkpoint.manifest();
  }
  if (!step) return step;
  // Rank 0 will overwrite the config.yaml that the configuration may come from.
  const std::string trained = ranks_.broadcast(ranks_.is_first() ? to_yaml(trained_) : "");
  if (!ranks_.is_first()) trained_ = parse_config(trained, selected);
  trainer_.set_data_start(resumed_data_start(manifest, trained_, config_, training_));
  trainer_.state_loaded();
  saved_step_ = *step;
  return step;
}

void CheckpointSaver::check_changes(const std::string& selection,
                                    const std::vector<std::string>& consent) const {
  const std::string path = selection == "auto" ? store_.newest_path() : selection;
  if (path.empty() || path == "none") return;
  std::optional<Checkpoint> checkpoint;
  try {
    checkpoint.emplace(path);
  } catch (const Error&) {  // loading decides what to do about it
    const std::string own = RunPaths(config_.run.folder()).config_path();
    if (selection == "auto" && kind_of(own) == PathKind::file)
      accepted_changes(load_config(own), config_, store_.newest_step(), consent,
                       config_.run.folder());
    return;
  }
  accepted_resumption(*checkpoint, trained_config(*checkpoint, config_), config_, training_,
                      consent);
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
