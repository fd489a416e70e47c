#include "train/train_step.h"

#include <chrono>
#include <cmath>

#include "autograd/gradient_step.h"
#include "core/base/instrument.h"
#include "optim/selection_bias.h"

namespace smoe {
namespace {

const Config& checked(const Config& config, int world_size) {
  check_global_batch(config.train, world_size);
  return config;
}

std::vector<std::int64_t> num_experts_of(const Transformer& model) {
  std::vector<std::int64_t> num_experts;
  for (const Router* router : model.routers()) num_experts.push_back(router->num_experts());
  return num_experts;
}

// Adds the time until the end of its scope.
class Stopwatch {
 public:
  explicit Stopwatch(double& seconds) : seconds_(seconds) {}
  ~Stopwatch() { seconds_ += std::chrono::duration<double>(Clock::now() - begin_).count(); }
  Stopwatch(const Stopwatch&) = delete;
  Stopwatch& operator=(const Stopwatch&) = delete;

 private:
  using Clock = std::chrono::steady_clock;
  double& seconds_;
  Clock::time_point begin_ = Clock::now();
};

}  // namespace

TrainStep::TrainStep(const Config& config, Communicator& communicator)
    : config_(checked(config, communicator.world_size())),
      model_(config, true,
             [&](std::int64_t numel) {
               return DataParallel::own_elements(numel, gradient_dtype(config.train), communicator,
                                                 config.parallel);
             }),
      parallel_(model_.store, communicator, config.parallel),
      optimizer_(model_.store, config.optim),
      results_(Tensor::zeros(
          {3 * num_micro_batches() + RouterStats::numel_of(num_experts_of(model_.transformer)) + 2},
          DType::f64, Category::workspace)),
      losses_(results_.view(0, {num_micro_batches(), 3})),
      stats_(num_experts_of(model_.transformer),
             results_.view(losses_.numel(), {results_.numel() - losses_.numel() - 2})),
      reader_(current_stream().device()) {}

StepGradient TrainStep::compute_gradient(std::int64_t step, const BatchSource& batch_of) {
  const TrainConfig& train = config_.train;
  const std::int64_t count = num_micro_batches(), stride = parallel_.world_size();
  const double loss_scale = 1.0 / (train.global_batch * train.seq_len);
  if (observer_) observer_("weight", model_.store.compute());
  results_.fill_zero();
  times_ = {};
  const TapeScope scope(tape_);
  GradientStep gradients(model_.store, count / stride);
  for (std::int64_t j = parallel_.rank(); j < count; j += stride) {
    const auto micro_batch = static_cast<std::int32_t>(j);
    const Batch batch = [&] {
      const PlaceScope place({.phase = Phase::data, .micro_batch = micro_batch});
      const Stopwatch stopwatch(times_.data_s);
      return batch_of(j);
    }();
    const PlaceScope place({.phase = Phase::forward, .micro_batch = micro_batch});
    const ForwardContext context{
        .batch = batch.num_sequences,
        .seq_len = batch.seq_len,
        .is_training = true,
        .seed = static_cast<std::uint64_t>(config_.run.seed),
        .step = step,
        .micro_batch = j,
        .recompute = train.recompute,
        .recompute_layers = train.recompute_layers,
        .on_routing = [this](std::span<const Routing> routings) { stats_.add(routings); }};
    const ModelLosses losses =
        model_.transformer.losses(batch.token_ids, batch.targets, loss_scale, 1.0 / count, context);
    {
      const PlaceScope backward(Phase::backward);
      gradients.backward(tape_, losses.total);
    }
    if (observer_) observer_("loss", losses.cross_entropy.data());
    const std::vector<Variable> terms{losses.cross_entropy, losses.balance, losses.z};
    gather_scalars(terms, std::vector{1.0, 1.0 / count, 1.0 / count}, losses_.rows(j, j + 1));
  }
  const std::int64_t num_sums = results_.numel() - 2;
  {
    const PlaceScope place(Phase::reduce);
    const Event begin(current_stream());
    {
      const Stopwatch stopwatch(times_.communication_s);
      gradients.finish();
      parallel_.sum(results_.view(0, {num_sums}));
    }
    if (parallel_.world_size() > 1) reduction_.emplace(begin, Event(current_stream()));
  }
  const PlaceScope place(Phase::clip);
  const GradientClip clip{.norm = results_.view(num_sums, {1}),
                          .coefficient = results_.view(num_sums + 1, {1})};
  clip_to(parallel_.gradient_sum_of_squares(), config_.optim.clip_norm, losses_, clip);
  return {clip, Event(current_stream())};
}

void TrainStep::update(const StepGradient& gradient, std::int64_t update, double lr) {
  const PlaceScope place(Phase::optimizer);
  const Tensor& coefficient = gradient.clip.coefficient;
  optimizer_.step(lr, update, coefficient);
  parallel_.start_weight_gather();
  const std::vector<Router*>& routers = model_.transformer.routers();
  for (std::size_t i = 0; i < routers.size(); ++i)
    if (routers[i]->trains() && routers[i]->selection_bias().defined())
      update_selection_bias(routers[i]->selection_bias(), stats_.expert_load(i),
                            routers[i]->config().selection_bias_rate, coefficient);
}

// Copies on a stream of its own, which waits for the results but not for the update after them.
StepResult TrainStep::read(const StepGradient& gradient) const {
  const PlaceScope place(Phase::losses);
  reader_.wait(gradient.ready);
  const StreamGuard guard(reader_);
  const std::vector<double> values = results_.to_vector<double>();
  StepResult result;
  auto next = values.begin();
  for (std::int64_t j = 0; j < num_micro_batches(); ++j) {
    result.losses.cross_entropy += *next++;
    result.losses.balance += *next++;
    result.losses.z += *next++;
  }
  for (std::size_t i = 0; i < stats_.num_routers(); ++i) {
    auto total = next + stats_.offset(i);
    RouterTotals router;
    for (std::int64_t e = 0; e < stats_.num_experts(i); ++e)
      router.expert_rows.push_back(static_cast<std::int64_t>(*total++));
    router.balance_loss = *total++ / static_cast<double>(num_micro_batches());
    router.z_loss = *total / static_cast<double>(num_micro_batches());
    result.routers.push_back(std::move(router));
  }
  result.grad_norm = values[values.size() - 2];
  result.is_applied = std::isfinite(values.back());
  return result;
}

StepTimes TrainStep::times() const {
  StepTimes times = times_;
  if (parallel_.world_size() == 1) times.communication_s = 0;
  if (reduction_ && current_stream().device().type == DeviceType::cuda)
    times.communication_s = reduction_->second.ms_since(reduction_->first) / 1e3;
  return times;
}

void TrainStep::set_observer(ValueObserver observer) {
  tape_.set_observer(observer);
  observer_ = std::move(observer);
}

}  // namespace smoe
