#include "train/trainer.h"

#include <chrono>
#include <cmath>

#include "core/system/fault.h"
#include "kernels/elementwise.h"
#include "optim/clip.h"
#include "optim/lr_schedule.h"
#include "train/evaluate.h"

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

const Config& checked(const Config& config, int world_size) {
  check_global_batch(config.train, world_size);
  return config;
}

ParameterStore::Options store_options(const Config& config) {
  const DType compute = config.train.precision;
  return {accumulation_dtype(compute), compute, static_cast<std::uint64_t>(config.run.seed)};
}

}  // namespace

Trainer::Trainer(const Config& config, const TrainingData& training, Communicator& ranks)
    : config_(checked(config, ranks.world_size())),
      sampler_(checked(training, config), config.run.seed, config.train.seq_len,
               config.train.global_batch),
      model_(config.model),
      store_(model_.parameters(), store_options(config)),
      parallel_(store_, ranks, config.parallel),
      optimizer_(store_, config.optim, parallel_.optimizer_shards()) {}

Trainer::Sums Trainer::forward_backward() {
  const std::vector<SequenceRef> sequences = sampler_.batch(step_ + skipped_data_steps_);
  const std::int64_t micro_batch = config_.train.micro_batch, stride = parallel_.world_size();
  const double loss_scale = 1.0 / (sequences.size() * config_.train.seq_len);
  const TapeScope scope(tape_);
  std::vector<ModelLosses> own_losses;  // read when all is queued, so that nothing waits before
  store_.begin_step();
  parallel_.begin_step();
  model_.clear_expert_load();
  for (std::int64_t j = parallel_.rank(); j < num_micro_batches(); j += stride) {
    const std::span own(sequences.data() + j * micro_batch, micro_batch);
    const Batch batch = read_batch(own, Split::train, config_.train.seq_len);
    store_.set_last_micro_batch(j + stride >= num_micro_batches());
    const ModelLosses losses =
        model_.losses(batch.token_ids, batch.targets, loss_scale, 1.0 / num_micro_batches(),
                      {.batch = micro_batch,
                       .seq_len = config_.train.seq_len,
                       .is_training = true,
                       .seed = static_cast<std::uint64_t>(config_.run.seed),
                       .step = step_,
                       .micro_batch = j,
                       .recompute = config_.train.recompute});
    tape_.backward(losses.total);
    own_losses.push_back(losses);
  }
  store_.finish_gradients();
  parallel_.finish_gradients();
  parallel_.sum(model_.expert_load());
  parallel_.sum(model_.router_losses());
  return sums_of(own_losses);
}

// Each loss has a place of its own, so that they add up in one order whoever they come from.
Trainer::Sums Trainer::sums_of(const std::vector<ModelLosses>& own_losses) const {
  std::vector<double> values(3 * num_micro_batches());
  for (std::size_t i = 0; i < own_losses.size(); ++i) {
    double* const place = &values[3 * (parallel_.rank() + i * parallel_.world_size())];
    const bool fails = fault_point("loss").error != 0;  // as bad data or a bad kernel would
    place[0] = fails ? std::nan("") : own_losses[i].cross_entropy.data().item();
    place[1] = own_losses[i].balance.data().item() / num_micro_batches();
    place[2] = own_losses[i].z.data().item() / num_micro_batches();
  }
  parallel_.sum(values);
  Sums sums;
  for (std::size_t i = 0; i < values.size(); i += 3) {
    sums.cross_entropy += values[i];
    sums.balance += values[i + 1];
    sums.z += values[i + 2];
  }
  return sums;
}

bool Trainer::update(double loss, StepReport& report) {
  const GradientClip clip = clip_to(parallel_.sum_of_squares(), config_.optim.clip_norm);
  report.grad_norm = clip.norm.item();
  report.lr = config_.optim.lr * lr_scale(config_.schedule, step_ + 1, config_.train.steps);
  if (!std::isfinite(loss) || !std::isfinite(report.grad_norm)) return false;
  optimizer_.step(report.lr, updates_ + 1, clip.coefficient);
  parallel_.gather_parameters();
  ++updates_;
  return true;
}

StepReport Trainer::step() {
  const Clock::time_point start = Clock::now();
  StepReport report;
  if (fault_point("weight").error != 0)  // as a flipped bit would
    kernels::fill(launch(), {store_.master().data(), store_.master().dtype(), 1, 0.5});
  const Sums sums = forward_backward();
  const bool updated = update(sums.cross_entropy + sums.balance + sums.z, report);
  if (updated) model_.balance_experts();
  nonfinite_in_a_row_ = updated ? 0 : nonfinite_in_a_row_ + 1;
  ++step_;

  const std::int64_t tokens = config_.train.global_batch * config_.train.seq_len;
  report.step = step_;
  report.steps = config_.train.steps;
  report.tokens = step_ * tokens;
  report.loss = sums.cross_entropy;
  report.balance_loss = sums.balance;
  report.z_loss = sums.z;
  report.step_s = seconds_since(start);
  report.tokens_per_s = tokens / report.step_s;
  report.is_skipped = !updated;
  return report;
}

std::vector<LayerReport> Trainer::layer_reports() {
  const std::vector<Tensor> rows = model_.expert_load(), losses = model_.router_losses();
  const auto count = static_cast<double>(num_micro_batches());
  std::vector<LayerReport> layers;
  for (std::size_t i = 0; i < rows.size(); ++i) {
    LayerReport layer{.expert_rows = rows[i].to_vector<std::int64_t>()};
    layer.load = expert_load(layer.expert_rows);
    layer.balance_loss = losses[i].view(0, {1}).item() / count;
    layer.z_loss = losses[i].view(1, {1}).item() / count;
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

ValidationReport Trainer::validate(const std::vector<ValidationSet>& sets) {
  const TrainConfig& train = config_.train;
  ValidationReport report{.step = step_, .steps = train.steps};
  Evaluation sum;
  for (const auto& [name, set] : sets) {
    const Evaluation part =
        evaluate(model_, set, {train.seq_len, train.micro_batch, train.eval_batches, &parallel_});
    sum += part;
    if (!name.empty())
      report.sources.push_back({name, part.tokens, part.loss(), part.bits_per_byte()});
  }
  report.tokens = sum.tokens;
  report.loss = sum.loss();
  report.bits_per_byte = sum.bits_per_byte();
  report.seconds = sum.seconds;
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
  optimizer_.visit_state(visitor);
}

void Trainer::visit_replicated(StateVisitor& visitor) {
  visit_counters(visitor);
  visit_model(visitor);
  if (!parallel_.is_sharded()) optimizer_.visit_state(visitor);
}

void Trainer::visit_model(StateVisitor& visitor) {
  store_.visit_state(visitor);
  model_.visit_state(visitor);
}

void Trainer::state_loaded() {
  store_.refresh_compute();
  model_.clear_expert_load();
}

}  // namespace smoe
