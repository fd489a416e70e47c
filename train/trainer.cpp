#include "train/trainer.h"

#include <chrono>
#include <cmath>

#include "optim/lr_schedule.h"
#include "train/data/batch.h"

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
      train_step_(config, communicator) {}

StepGradient Trainer::compute_gradient() {
  const std::vector<SequenceRef> sequences = sampler_.batch(step_ + skipped_data_steps_);
  const std::int64_t micro_batch = config_.train.micro_batch;
  return train_step_.compute_gradient(step_, [&](std::int64_t index) {
    return read_batch(
        {sequences.data() + index * micro_batch, static_cast<std::size_t>(micro_batch)},
        Split::train, config_.train.seq_len);
  });
}

StepReport Trainer::step() {
  const Clock::time_point start = Clock::now();
  const StepGradient gradient = compute_gradient();
  const StepLosses losses = train_step_.read_losses(gradient);
  const double grad_norm = gradient.clip.norm.item();
  const double lr = config_.optim.lr * lr_scale(config_.schedule, step_ + 1, config_.train.steps);
  const bool is_finite =
      std::isfinite(losses.cross_entropy + losses.balance + losses.z) && std::isfinite(grad_norm);
  if (is_finite) train_step_.update(gradient, ++updates_, lr);
  nonfinite_in_a_row_ = is_finite ? 0 : nonfinite_in_a_row_ + 1;
  ++step_;

  const std::int64_t tokens = config_.train.global_batch * config_.train.seq_len;
  const double seconds = seconds_since(start);
  return {.step = step_,
          .steps = config_.train.steps,
          .tokens = step_ * tokens,
          .loss = losses.cross_entropy,
          .balance_loss = losses.balance,
          .z_loss = losses.z,
          .lr = lr,
          .grad_norm = grad_norm,
          .tokens_per_s = tokens / seconds,
          .step_s = seconds,
          .is_skipped = !is_finite};
}

std::vector<LayerReport> Trainer::layer_reports() {
  const RouterStats& stats = train_step_.router_stats();
  const auto num_micro_batches = static_cast<double>(train_step_.num_micro_batches());
  std::vector<LayerReport> layers;
  for (std::int64_t i = 0; i < config_.model.num_layers; ++i) {
    LayerReport layer{.expert_rows = stats.expert_load().rows(i, i + 1).to_vector<std::int64_t>()};
    layer.load = expert_load(layer.expert_rows);
    layer.balance_loss = stats.losses().view(2 * i, {1}).item() / num_micro_batches;
    layer.z_loss = stats.losses().view(2 * i + 1, {1}).item() / num_micro_batches;
    layers.push_back(std::move(layer));
  }
  return layers;
}

void Trainer::add_details(StepReport& report) {
  report.layers = layer_reports();
  for (const LayerReport& layer : report.layers) {
    report.imbalance = std::max(report.imbalance, layer.load.imbalance);
    report.dead_experts += layer.load.dead;
  }
  report.peak_bytes = memory_use().peak_bytes;
  report.memory_bytes = memory_at_peak();
  reset_peak_memory();
}

ValidationReport Trainer::validate(const std::vector<ValidationSet>& sets,
                                   const OnEvaluated& on_evaluated) {
  const TrainConfig& train = config_.train;
  const EvaluateOptions options{.seq_len = train.seq_len,
                                .micro_batch = train.micro_batch,
                                .max_batches = train.eval_batches,
                                .parallel = &train_step_.parallel()};
  ValidationReport report{.step = step_, .steps = train.steps};
  Evaluation total;
  for (const auto& [name, set] : sets) {
    const Evaluation source = evaluate(model(), set, options, on_evaluated);
    total += source;
    if (!name.empty())
      report.sources.push_back({name, source.tokens, source.loss(), source.bits_per_byte()});
  }
  report.tokens = total.tokens;
  report.loss = total.loss();
  report.bits_per_byte = total.bits_per_byte();
  report.seconds = total.seconds;
  return report;
}

void Trainer::visit_counters(StateVisitor& visitor) {
  visitor.integer("step", step_);
  visitor.integer("updates", updates_);
  visitor.integer("nonfinite_in_a_row", nonfinite_in_a_row_);
  visitor.integer("skipped_data_steps", skipped_data_steps_);
}

void Trainer::visit_state(StateVisitor& visitor) {
  visit_counters(visitor);
  visit_model(visitor);
  train_step_.optimizer().visit_state(visitor);
}

void Trainer::visit_replicated(StateVisitor& visitor) {
  visit_counters(visitor);
  if (!is_sharded()) {
    visit_model(visitor);
    train_step_.optimizer().visit_state(visitor);
    return;
  }
  // Each rank has its own elements of the master weights; what all have is the weights ops read.
  train_step_.parallel().await_values();
  TrainableModel& trained = train_step_.model();
  trained.store.visit_buffer(visitor, "", trained.store.compute());
  trained.transformer.visit_state(visitor);
}

void Trainer::visit_model(StateVisitor& visitor) {
  train_step_.parallel().gather_masters();
  train_step_.model().visit_state(visitor);
}

void Trainer::state_loaded() {
  train_step_.model().store.refresh_compute();
  train_step_.router_stats().clear();
}

}  // namespace smoe
