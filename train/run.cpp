#include "train/run.h"

#include <fmt/chrono.h>
#include <fmt/format.h>

#include "core/device.h"
#include "core/system/folder.h"
#include "core/system/format.h"
#include "core/version.h"
#include "kernels/engines.h"
#include "kernels/threads.h"
#include "layers/model_size.h"
#include "train/load_model.h"
#include "train/replicas.h"
#include "train/report/peak_flops.h"
#include "train/run_facts.h"

namespace smoe {
namespace {

std::int64_t num_tokens(const std::vector<ValidationSet>& sets) {
  std::int64_t sum = 0;
  for (const ValidationSet& validation : sets) sum += validation.set.num_tokens(Split::validation);
  return sum;
}

// The vocabulary's size is part of what a checkpoint must match, so it is filled in before all
// else.
Config resolved(Config config, const TrainingData& training) {
  if (config.model.vocab_size == 0) config.model.vocab_size = training.vocab_size();
  return config;
}

}  // namespace

Run::Run(const Config& config, Ranks& ranks)
    : ranks_(ranks),
      training_(TrainingData::open(config.data)),
      config_(resolved(config, training_)),
      validation_(open_validation_sets(config.data)),
      paths_(config.run.folder()),
      trainer_(config_, training_, join()),
      checkpoints_(
          {paths_.checkpoints_path(), config.checkpoint.keep, config.checkpoint.keep_every},
          [this](const std::string& line) { say(line); }) {
  SMOE_CHECK(config_.train.eval_every == 0 || !validation_.empty(), "train.eval_every: ",
             config.data.validation.empty() ? training_.summary() : config.data.validation,
             " has no validation text; set it to 0");
  if (config.checkpoint.async && ranks_.is_first())
    background_.emplace(checkpoints_.options(), [this](const std::string& line) { say(line); });
  if (ranks_.is_first()) check_same_config();
  describe();
  resume();
}

/// Claims the folder before the others are met, so that they hear of it when that fails.
Communicator& Run::join() {
  if (ranks_.is_first()) {
    folder_.emplace(config_.run.folder(), config_.checkpoint.resume);
    reports_.emplace(*folder_, config_);
  }
  if (ranks_.are_several()) ranks_.join(run_facts(config_, training_));
  return ranks_.communicator();
}

void Run::describe() {
  const ModelConfig& m = config_.model;
  const ModelSize size = model_size(m);
  say(fmt::format(
      "{}: {} parameters, {} active; {} layers of width {}, {} experts of width {}, top {}",
      config_.run.name, short_count(size.total), short_count(size.active), m.num_layers, m.d_model,
      m.num_experts, m.d_expert, m.top_k));
  say(fmt::format("data    {}: {} training tokens, {} for validation, vocabulary {}",
                  training_.summary(), short_count(training_.num_tokens(Split::train)),
                  short_count(num_tokens(validation_)), m.vocab_size));
  const std::string ranks =
      ranks_.are_several() ? fmt::format(", {} ranks", ranks_.world_size()) : "";
  say(fmt::format("device  {}, {} threads{}; {} steps of {} tokens",
                  to_string(current_stream().device()), kernels::cpu::num_threads(), ranks,
                  config_.train.steps, config_.train.global_batch * config_.train.seq_len));
  const AttentionShape attention{config_.train.micro_batch, config_.train.seq_len, m.num_heads,
                                 m.num_kv_heads, m.head_dim};
  const DType precision = config_.train.precision;
  const kernels::ExpertLayer experts{m.num_experts, m.d_model, m.d_expert, m.activation, precision};
  say(fmt::format("kernels experts by {}, attention by {}",
                  kernels::expert_engine(launch(), experts),
                  kernels::attention_engine(launch(), attention, precision)));
  say(fmt::format("folder  {}", paths_.path()));
  if (!folder_) return;
  for (const std::string& warning : folder_->warnings()) say("warning " + warning);
}

// A checkpoint refuses another configuration by its digest; this says which keys differ.
void Run::check_same_config() const {
  const bool goes_on =
      config_.checkpoint.resume == "auto" && kind_of(paths_.checkpoints_path()) == PathKind::folder;
  if (!goes_on || kind_of(paths_.config_path()) != PathKind::file) return;
  const auto differences = resume_differences(load_config(paths_.config_path()), config_);
  SMOE_CHECK(differences.empty(), paths_.path(), ": cannot go on with ", differences[0],
             differences.size() > 1 ? concat(", and ", differences.size() - 1, " more keys") : "",
             "; put it back, or choose another run.name");
}

void Run::resume() {
  const auto step = load(config_.checkpoint.resume);
  if (!step && !config_.train.init_from.empty()) initialize();
  saved_step_ = step.value_or(-1);
  if (!ranks_.is_first()) return;
  folder_->write_config(to_yaml(config_));
  folder_->write_tokenizer(*training_.tokenizer());
  folder_->write_readme();
  reports_->begin_after(trainer_.steps_done());
}

/// Puts back the state that `checkpoint` stands for, as CheckpointStore::resume. Which is the
/// newest the first rank says, so that all load the same.
std::optional<std::int64_t> Run::load(const std::string& checkpoint) {
  std::string chosen = checkpoint;
  if (ranks_.are_several() && checkpoint == "auto") {
    ranks_.expect_long_wait();
    std::optional<Checkpoint> newest;
    if (ranks_.is_first()) newest = checkpoints_.newest_intact();
    chosen = ranks_.from_first(newest ? newest->path() : "none");
  }
  const VisitState visit = [this](StateVisitor& v) { trainer_.visit_state(v); };
  std::optional<std::int64_t> step;
  if (ranks_.is_first()) {
    step = checkpoints_.resume(chosen, header(), visit);
  } else if (chosen != "none") {  // what the first rank finds fit
    const Checkpoint theirs(chosen);
    theirs.load(visit);
    step = theirs.manifest().step;
  }
  if (step) trainer_.state_loaded();
  return step;
}

// Weights mean nothing with another tokenizer. Other keys of the model than its sizes may change,
// to stretch the context for instance, but not without being seen.
void Run::initialize() {
  const StoredModel from = open_model(config_.train.init_from);
  SMOE_CHECK(!from.tokenizer || from.tokenizer->digest() == training_.tokenizer()->digest(),
             "train.init_from: ", training_.summary(), " must be made with the tokenizer of ",
             config_.train.init_from, "; it is of another");
  from.checkpoint.load_part([this](StateVisitor& v) { trainer_.visit_model(v); });
  trainer_.state_loaded();
  say(fmt::format("weights from {}", from.checkpoint.path()));
  for (const std::string& difference : resume_differences(from.config, config_))
    if (difference.starts_with("model.")) say(fmt::format("  {}", difference));
}

int Run::train() {
  const int exit_code = train_to_the_end();
  ranks_.leave();
  return exit_code;
}

int Run::train_to_the_end() {
  if (saved_step_ >= config_.train.steps) {
    say(fmt::format("nothing to do: all {} steps are done", config_.train.steps));
    return 0;
  }
  const StopSignals signals;
  report_start();
  if (trainer_.steps_done() == 0 && config_.train.eval_every > 0) validate();
  while (trainer_.steps_done() < config_.train.steps) {
    train_step();
    if (background_) background_->poll();
    if (is_due(config_.parallel.check_every))
      check_replicas(ranks_.communicator(),
                     [this](StateVisitor& v) { trainer_.visit_replicated(v); });
    if (is_due(config_.train.eval_every)) validate();
    if (is_due(config_.checkpoint.every)) save();
    if (const int signal = ranks_.agree_on_signal(signals.received())) {
      save();
      wait_for_save();
      say(fmt::format("stopped by {} after step {}; the same command goes on from here",
                      signal_name(signal), trainer_.steps_done()));
      finish();
      return exit_code_of_signal(signal);
    }
  }
  if (!validation_.empty()) validate();
  save();
  wait_for_save();
  finish();
  return 0;
}

void Run::report_start() {
  report(StartReport{.step = trainer_.steps_done(),
                     .steps = config_.train.steps,
                     .time = fmt::format("{:%FT%TZ}", fmt::gmtime(std::time(nullptr))),
                     .device = to_string(current_stream().device()),
                     .threads = kernels::cpu::num_threads(),
                     .ranks = ranks_.world_size(),
                     .version = SMOE_VERSION});
}

bool Run::is_due(std::int64_t every) const {
  return every > 0 && trainer_.steps_done() % every == 0;
}

void Run::train_step() {
  ranks_.begin_step(trainer_.steps_done() + 1);
  StepReport step = trainer_.step();
  ranks_.step_took(step.step_s);
  trained_s_ += step.step_s;
  since_report_s_ += step.step_s;
  ++steps_since_report_;
  const bool is_last = trainer_.steps_done() == config_.train.steps;
  if (is_due(config_.log.every) || is_last || step.is_skipped) {
    step.elapsed_s = trained_s_;
    step.step_s = since_report_s_ / steps_since_report_;
    step.tokens_per_s = config_.train.global_batch * config_.train.seq_len / step.step_s;
    step.mfu = utilisation(step.tokens_per_s / ranks_.world_size());
    since_report_s_ = 0;
    steps_since_report_ = 0;
    trainer_.add_details(step);
    report(step);
  }
  if (step.is_skipped) handle_nonfinite();
}

double Run::utilisation(double tokens_per_s) const {
  const double peak = peak_flops(current_stream().device(), config_.train.precision);
  const double flops = flops_per_token(config_.model, config_.train.seq_len).training();
  return peak == 0 ? 0 : tokens_per_s * flops / peak;
}

void Run::handle_nonfinite() {
  const std::int64_t step = trainer_.steps_done();
  const std::string what =
      fmt::format("step {}: loss or gradient norm is not finite; its update was not applied", step);
  if (config_.train.on_nonfinite == NonfinitePolicy::stop) {
    save();
    wait_for_save();
    throw UsageError(what + "; stopping, as train.on_nonfinite says");
  }
  if (trainer_.nonfinite_in_a_row() >= config_.train.max_nonfinite)
    throw UsageError(fmt::format("{}; that makes {} in a row, the most train.max_nonfinite allows",
                                 what, trainer_.nonfinite_in_a_row()));
  if (config_.train.on_nonfinite == NonfinitePolicy::rollback) roll_back();
}

// Going back repeats the same steps on the same data, and what failed would fail again: so the
// data between the checkpoint and the failure are left out.
void Run::roll_back() {
  const std::int64_t failed = trainer_.steps_done();
  const std::int64_t in_a_row = ++rollbacks_;
  SMOE_CHECK(in_a_row <= config_.train.max_nonfinite, "step ", failed, ": rolled back ",
             in_a_row - 1, " times, the most train.max_nonfinite allows");
  wait_for_save();
  const auto step = load("auto");
  SMOE_CHECK(step, "step ", failed, ": there is no checkpoint yet to roll back to");
  trainer_.skip_data(failed - *step);
  saved_step_ = *step;
  if (validated_step_ > *step) validated_step_ = -1;
  if (reports_) reports_->begin_after(trainer_.steps_done());
  say(fmt::format("rolled back from step {} to step {}; the data between are left out", failed,
                  *step));
}

void Run::validate() {
  if (validated_step_ == trainer_.steps_done()) return;
  ranks_.expect_long_wait();
  const ValidationReport validation = trainer_.validate(validation_);
  validated_step_ = validation.step;
  report(validation);
}

void Run::save() {
  if (saved_step_ == trainer_.steps_done()) return;
  ranks_.expect_long_wait();
  if (ranks_.is_first()) reports_->sync();
  const VisitState visit = [this](StateVisitor& v) { trainer_.visit_state(v); };
  if (config_.checkpoint.async) {
    start_save(visit);
  } else {
    if (ranks_.is_first() || trainer_.is_sharded()) checkpoints_.save(header(), visit, writers());
    ranks_.communicator().barrier()->wait();
  }
  saved_step_ = trainer_.steps_done();
}

/// The first rank alone copies and saves the state. Where each has a part of it, the others show it
/// theirs.
void Run::start_save(const VisitState& visit) {
  if (ranks_.is_first()) {
    background_->start(header(), visit);
  } else if (trainer_.is_sharded()) {
    StateCopy::show(visit);
  }
}

void Run::wait_for_save() {
  if (!config_.checkpoint.async) return;
  ranks_.expect_long_wait();
  if (background_) background_->wait();
}

/// The first rank alone where it has everything, else all.
ShardWriters Run::writers() {
  if (!trainer_.is_sharded()) return {};
  return {ranks_.rank(), ranks_.world_size(), [this] { ranks_.communicator().barrier()->wait(); }};
}

void Run::finish() {
  if (reports_) reports_->finish();
}

CheckpointHeader Run::header() const {
  return {.step = trainer_.steps_done(),
          .device = current_stream().device().type == DeviceType::cpu ? "cpu" : "cuda",
          .config = Digest::from_hex(config_digest(config_)),
          .data = training_.digest()};
}

}  // namespace smoe
