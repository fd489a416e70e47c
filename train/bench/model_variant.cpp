#include "train/bench/model_variant.h"

#include <algorithm>
#include <cmath>
#include <memory>

#include "autograd/ops/views.h"
#include "autograd/tape.h"
#include "core/memory.h"
#include "core/random.h"
#include "layers/layer_kinds.h"
#include "layers/moe.h"
#include "train/bench/gathered_mlp.h"
#include "train/profile/timing.h"
#include "train/train_step.h"

namespace smoe {
namespace {

constexpr std::int64_t kPaddedRows = 128;  // as in expert_variant.cpp
constexpr const char* kGatheredKind = "gathered_moe";

// The experts' MLP on gathered and padded copies: the function of moe_mlp.
Variable gathered_moe_mlp(const Variable& x, const Variable& gates, const RoutingPlan& plan,
                          Parameter& w1, Parameter& w2, Activation kind) {
  const std::int64_t num_tokens = plan.num_tokens;
  const RoutingPlan padded = padded_plan(plan, kPaddedRows);
  const auto mlp = std::make_shared<GatheredMlp>(padded, w1.value(), w2.value(), kind);
  const Tensor padded_gates = extended(gates.data(), padded);
  const Variable* const inputs[] = {&x, &gates};
  Parameter* const weights[] = {&w1, &w2};
  Tensor out = mlp->forward(extended(x.data(), padded), padded_gates, is_recorded(inputs, weights));
  return record("gathered_moe_mlp", out.rows(0, num_tokens), {&x, &gates}, {&w1, &w2},
                [=, &w1, &w2](Tensor dout, InputGradients& gradients) {
                  const auto gradient_of = [](Parameter& weight) {
                    return weight.trains() ? WeightGradient{.dweight = weight.gradient(),
                                                            .beta = weight.claim_gradient()}
                                           : WeightGradient{};
                  };
                  const Tensor dgates = Tensor::empty_like(padded_gates);
                  const WeightGradient dw2 = gradient_of(w2), dw1 = gradient_of(w1);
                  const Tensor padded_dout = extended(dout, padded);
                  dout = Tensor();
                  const Tensor dx = mlp->backward(padded_dout, padded_gates, dgates, dw1, dw2);
                  gradients.give(0, dx.rows(0, num_tokens));
                  gradients.give(1, dgates.rows(0, num_tokens));
                });
}

// MoE with the experts on copies. Its parameters have the same names, and so the same values.
class GatheredMoe : public MoE {
 public:
  explicit GatheredMoe(const LayerSpec& spec)
      : MoE(spec.name + ".block_sparse_moe", spec.model), activation_(spec.model.activation) {}

  Output forward(const Variable& x, const LayerContext& context) override {
    const Routing routing = router().forward(x, context);
    const std::vector<Parameter*> all = parameters();  // router, w1, w2
    return {.y = gathered_moe_mlp(x, routing.gates, routing.plan, *all[1], *all[2], activation_),
            .routings = {routing}};
  }

 private:
  Activation activation_;
};

Batch random_batch(const Config& config) {
  const std::int64_t num_tokens = config.train.micro_batch * config.train.seq_len;
  RandomStream random(17, hash_name("bench"));
  const auto ids = [&] {
    std::vector<std::int32_t> values(num_tokens);
    for (std::int32_t& value : values)
      value = static_cast<std::int32_t>(random.below(config.model.vocab_size));
    return Tensor::from(values, {num_tokens}, Category::workspace);
  };
  return {.token_ids = ids(),
          .targets = ids(),
          .num_sequences = config.train.micro_batch,
          .seq_len = config.train.seq_len};
}

// A model with its optimizer, and the batch that it trains on.
class Training {
 public:
  explicit Training(const Config& config)
      : config_(config), step_(config, single_communicator()), batch_(random_batch(config)) {}

  StepResult step() {
    const StepGradient gradient =
        step_.compute_gradient(num_steps_, [&](std::int64_t) { return batch_; });
    step_.update(gradient, ++num_steps_, config_.optim.lr);
    return step_.read(gradient);
  }
  void forward() {
    const NoGradScope no_grad;
    step_.model().transformer.losses(batch_.token_ids, batch_.targets, 1.0, 1.0,
                                     {.batch = batch_.num_sequences, .seq_len = batch_.seq_len});
  }

 private:
  Config config_;
  TrainStep step_;
  Batch batch_;
  std::int64_t num_steps_ = 0;
};

// Forward passes and whole steps in turn, enough to fill `seconds`: a step's time without the
// forward's is that of backward and update.
void time_in_turns(Training& training, double seconds, Measurement& m) {
  constexpr int kMinRuns = 5, kMaxRuns = 100;
  std::vector<double> forward_ms, backward_ms;
  double spent_ms = 0;
  for (int run = 0; run < kMinRuns || (spent_ms < 1e3 * seconds && run < kMaxRuns); ++run) {
    const double forward = time_ms([&] { training.forward(); });
    const double step = time_ms([&] { training.step(); });
    forward_ms.push_back(forward);
    backward_ms.push_back(step - forward);
    spent_ms += step;
  }
  m.forward_ms = median(std::move(forward_ms));
  m.backward_ms = median(std::move(backward_ms));
}

}  // namespace

Config paper_model(std::int64_t scale, DType dtype) {
  const auto divided = [&](std::int64_t value, std::int64_t least) {
    return std::max(value / scale, least);
  };
  Config config;
  config.run.name = "bench";
  ModelConfig& model = config.model;
  model.vocab_size = divided(32000, 256);
  model.num_layers = divided(16, 2);
  model.num_heads = 8;
  model.num_kv_heads = 2;
  model.head_dim = divided(128, 8);
  model.d_model = model.num_heads * model.head_dim;
  model.d_expert = divided(3584, 32);
  model.num_experts = 8;
  model.top_k = 2;
  model.router.balance_loss = 0.16;
  model.router.z_loss = 1e-3;
  config.train.seq_len = divided(2048, 16);
  config.train.micro_batch = config.train.global_batch = 16;
  config.train.steps = 1000;
  config.train.precision = dtype;
  config.optim.lr = 1e-4;
  return config;
}

Measurement measure_model(VariantKind kind, const SweepPoint& point, double seconds,
                          std::vector<double>& reference) {
  constexpr int kWarmup = 3;
  Config config = *point.model;
  if (kind == VariantKind::padded) {
    if (!find_layer_kind(LayerPart::mlp, kGatheredKind)) register_mlp<GatheredMoe>(kGatheredKind);
    config.model.mlp.kind = kGatheredKind;
  }
  Training training(config);
  Measurement m{.variant = kind};
  std::vector<double> results;
  for (int i = 0; i < kWarmup; ++i) {
    if (i > 0) reset_peak_memory();
    const StepResult result = training.step();
    results.insert(results.end(), {result.losses.cross_entropy, result.grad_norm});
  }
  m.peak_bytes = memory_use().peak_bytes;
  if (reference.empty()) reference = results;
  for (std::size_t i = 0; i < results.size(); ++i)
    m.error = std::max(m.error, std::abs(results[i] - reference[i]) / reference[i]);
  time_in_turns(training, seconds, m);
  return m;
}

}  // namespace smoe
