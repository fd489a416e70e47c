#include "train/trainer.h"

#include <chrono>

#include "optim/lr_schedule.h"

namespace smoe {
namespace {

using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

const TrainingData& checked(const TrainingData& training, const Config& config) {
  SMOE_CHECK(config.model.vocab_size >= training.vocab_size(), training.summary(),
             ": its vocabulary of ", training.vocab_size(),
             " tokens does not fit model.vocab_size; got ", config.model.vocab_size);
  return training;
}

}  // namespace

Trainer::Trainer(const Config& config, const TrainingData& training, Communicator& communicator)
    : config_(config),
      sampler_(checked(training, config), config.run.seed, config.train.seq_len,
               config.train.global_batch),
      reader_(Split::train, config.train.seq_len),
      train_step_(config, communicator) {}

StepGradient Trainer::compute_gradient() {
  const std::vector<SequenceRef> sequences = sampler_.batch(step_ + skipped_data_steps_);
  const auto micro_batch_of = [&](const std::vector<SequenceRef>& step, std::int64_t index) {
    const auto begin = step.begin() + index * config_.train.micro_batch;
    return std::vector<SequenceRef>(begin, begin + config_.train.micro_batch);
  };
  const DataParallel& parallel = train_step_.parallel();
  return train_step_.compute_gradient(step_, [&](std::int64_t index) {
    std::vector<SequenceRef> next;
    if (index + parallel.world_size() < num_micro_batches())
      next = micro_batch_of(sequences, index + parallel.world_size());
    else if (step_ + 1 < config_.train.steps)
      next = micro_batch_of(sampler_.batch(step_ + 1 + skipped_data_steps_), parallel.rank());
    return reader_.read(micro_batch_of(sequences, index), std::move(next));
  });
}

StepReport Trainer::step() {
  const Clock::time_point start = Clock::now();
  const StepGradient gradient = compute_gradient();
  const double lr = config_.optim.lr * lr_scale(config_.schedule, step_ + 1, config_.train.steps);
  train_step_.update(gradient, updates_ + 1, lr);
  result_ = train_step_.read(gradient);
  const StepLosses& losses = result_.losses;
  updates_ += result_.is_applied;
  nonfinite_in_a_row_ = result_.is_applied ? 0 : nonfinite_in_a_row_ + 1;
  ++step_;

  const std::int64_t tokens = config_.train.global_batch * config_.train.seq_len;
  const double seconds = seconds_since(start);
  return {.step = step_,
          .steps = config_.train.steps,
          .tokens = data_start_tokens_ + (step_ - data_start_step_) * tokens,
          .loss = losses.cross_entropy,
          .balance_loss = losses.balance,
          .z_loss = losses.z,
          .lr = lr,
          .grad_norm = result_.grad_norm,
          .tokens_per_s = tokens / seconds,
          .step_s = seconds,
          .is_skipped = !result_.is_applied};
}

void Trainer::visit_counters(StateVisitor& visitor) {
  visitor.integer("step", step_);
  visitor.integer("updates", updates_);
  visitor.integer("nonfinite_in_a_row", nonfinite_in_a_row_);
  visitor.integer("skipped_data_steps", skipped_data_steps_);
}

void Trainer::visit_optimizer(StateVisitor& visitor) {
  visitor.integer("updates", updates_);
  train_step_.optimizer().visit_state(visitor);
}

DataStart Trainer::data_start() const {
  return {data_start_step_, data_start_tokens_, sampler_.start()};
}

void Trainer::set_data_start(const DataStart& start) {
  data_start_step_ = start.step;
  data_start_tokens_ = start.tokens;
  sampler_.start_at(start.sampling);
}

void Trainer::visit_state(StateVisitor& visitor) {
  visit_counters(visitor);
  visit_model(visitor);
  train_step_.optimizer().visit_state(visitor);
}

void Trainer::visit_replicated(StateVisitor& visitor) {
  visit_counters(visitor);
  train_step_.parallel().await_values();
  TrainableModel& trained = train_step_.model();
  const auto visit = [&](const char* name, Tensor buffer) {
    if (buffer.defined()) visitor.tensor(name, buffer);
  };
  visit("weights", trained.store.compute());
  if (trained.store.is_split()) visit("full_precision_weights", trained.store.full_precision());
  trained.transformer.visit_state(visitor);
  trained.transformer.visit_frozen(visitor);
  if (is_sharded()) return;
  visit("weight_remainders", trained.store.remainders());
  train_step_.optimizer().visit_buffers(visitor);
}

void Trainer::visit_replicated_parts(StateVisitor& visitor) {
  visit_counters(visitor);
  train_step_.parallel().await_values();
  TrainableModel& trained = train_step_.model();
  if (!is_sharded()) {
    trained.visit_state(visitor);
    trained.visit_base(visitor);
    train_step_.optimizer().visit_state(visitor);
    return;
  }
  trained.store.visit_buffer(visitor, "", trained.store.compute());
  for (const Parameter* parameter : trained.store.parameters()) {
    if (!parameter->full_precision() || !trained.store.is_split()) continue;
    Tensor value = parameter->value();
    visitor.tensor(parameter->name(), value);
  }
  trained.transformer.visit_state(visitor);
  trained.transformer.visit_frozen(visitor);
}

void Trainer::visit_model(StateVisitor& visitor) {
  train_step_.parallel().await_values();
  train_step_.model().visit_state(visitor);
}

void Trainer::state_loaded() {
  train_step_.parallel().start_weight_gather();
}

}  // namespace smoe
