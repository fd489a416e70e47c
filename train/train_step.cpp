#include "train/train_step.h"

#include "autograd/gradient_step.h"
#include "optim/selection_bias.h"

namespace smoe {
namespace {

const Config& checked(const Config& config, int world_size) {
  check_global_batch(config.train, world_size);
  return config;
}

}  // namespace

TrainStep::TrainStep(const Config& config, Communicator& communicator)
    : config_(checked(config, communicator.world_size())),
      model_(config),
      parallel_(model_.store, communicator, config.parallel),
      optimizer_(model_.store, config.optim, parallel_.optimizer_shards()),
      stats_(config.model, model_.store.master().dtype()) {}

StepGradient TrainStep::compute_gradient(std::int64_t step, const BatchSource& batch_of) {
  const TrainConfig& train = config_.train;
  const std::int64_t count = num_micro_batches(), stride = parallel_.world_size();
  const double loss_scale = 1.0 / (train.global_batch * train.seq_len);
  if (observer_) observer_("weight", model_.store.master());
  std::vector<ModelLosses> own_losses;  // read later, so that nothing waits in between
  stats_.clear();
  const TapeScope scope(tape_);
  GradientStep gradients(model_.store, count / stride);
  for (std::int64_t j = parallel_.rank(); j < count; j += stride) {
    const Batch batch = batch_of(j);
    const ForwardContext context{.batch = batch.num_sequences,
                                 .seq_len = batch.seq_len,
                                 .is_training = true,
                                 .seed = static_cast<std::uint64_t>(config_.run.seed),
                                 .step = step,
                                 .micro_batch = j,
                                 .recompute = train.recompute,
                                 .on_routing = [this](std::size_t layer, const Routing& routing) {
                                   stats_.add(layer, routing);
                                 }};
    const ModelLosses losses =
        model_.transformer.losses(batch.token_ids, batch.targets, loss_scale, 1.0 / count, context);
    gradients.backward(tape_, losses.total);
    own_losses.push_back(losses);
  }
  gradients.finish();
  parallel_.sum(stats_.expert_load());
  parallel_.sum(stats_.losses());
  return {std::move(own_losses), clip_to(parallel_.sum_of_squares(), config_.optim.clip_norm)};
}

// Each loss has a fixed place in the array, so that the order of summation does not depend on the
// number of ranks.
StepLosses TrainStep::read_losses(const StepGradient& gradient) const {
  const std::int64_t count = num_micro_batches();
  std::vector<double> values(3 * count);
  for (std::size_t i = 0; i < gradient.losses.size(); ++i) {
    const ModelLosses& losses = gradient.losses[i];
    double* const place = &values[3 * (parallel_.rank() + i * parallel_.world_size())];
    if (observer_) observer_("loss", losses.cross_entropy.data());
    place[0] = losses.cross_entropy.data().item();
    place[1] = losses.balance.data().item() / count;
    place[2] = losses.z.data().item() / count;
  }
  parallel_.sum(values);
  StepLosses sums;
  for (std::size_t i = 0; i < values.size(); i += 3) {
    sums.cross_entropy += values[i];
    sums.balance += values[i + 1];
    sums.z += values[i + 2];
  }
  return sums;
}

void TrainStep::update(const StepGradient& gradient, std::int64_t update, double lr) {
  optimizer_.step(lr, update, gradient.clip.coefficient);
  parallel_.start_weight_gather();
  const std::vector<Tensor> biases = model_.transformer.selection_biases();
  const std::int64_t num_experts = config_.model.num_experts;
  for (std::size_t i = 0; i < biases.size(); ++i)
    if (biases[i].defined())
      update_selection_bias(
          biases[i],
          stats_.expert_load().view(static_cast<std::int64_t>(i) * num_experts, {num_experts}),
          config_.model.router.selection_bias_rate);
}

void TrainStep::set_observer(ValueObserver observer) {
  tape_.set_observer(observer);
  observer_ = std::move(observer);
}

}  // namespace smoe
