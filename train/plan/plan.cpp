#include "train/plan/plan.h"

#include "core/device.h"
#include "train/data/training_data.h"
#include "train/plan/step_cost.h"
#include "train/plan/warnings.h"

namespace smoe {
namespace {

std::optional<PlannedData> find_data(const Config& config) {
  if (!missing_set(config.data).empty()) return std::nullopt;
  const TrainingData data = TrainingData::open(config.data);
  return PlannedData{data.num_tokens(Split::train), data.vocab_size()};
}

// Memory of the device that the run would use here; 0: it is not here.
std::int64_t device_bytes_here(const Config& config) {
  try {
    return total_memory_bytes(select_device(config.run.device));
  } catch (const UsageError&) {
    return 0;
  }
}

std::vector<RankPlan> plan_ranks(const Plan& plan) {
  std::vector<RankPlan> ranks;
  for (const bool zero : {false, true}) {
    Config config = plan.config;
    config.parallel.zero = zero;
    ranks.push_back({.zero = zero,
                     .memory = plan_memory(config, plan.num_ranks),
                     .communication = plan_communication(config, plan.num_ranks)});
  }
  return ranks;
}

}  // namespace

kernels::cuda::ExpertGemmConfig Plan::hopper_gemm() const {
  const ModelConfig& m = config.model;
  return kernels::choose_expert_gemm({.num_experts = m.num_experts,
                                      .d_model = m.d_model,
                                      .d_expert = m.d_expert,
                                      .activation = m.activation,
                                      .dtype = config.train.precision},
                                     kernels::kHopper);
}

double Plan::rows_per_expert() const {
  return static_cast<double>(tokens_per_micro_batch() * config.model.top_k) /
         static_cast<double>(config.model.num_experts);
}

double Plan::epochs() const {
  return data ? static_cast<double>(tokens()) / static_cast<double>(data->training_tokens) : 0;
}

CommunicationCost plan_communication(const Config& config, int num_ranks) {
  const std::int64_t trained = model_size(config.model).trained;
  return communication_cost(trained * size_of(gradient_dtype(config.train)),
                            trained * size_of(config.train.precision), config.parallel.zero,
                            {.num_ranks = num_ranks});
}

Plan make_plan(const Config& config, int num_ranks, std::int64_t device_bytes) {
  Plan plan;
  plan.num_ranks = num_ranks;
  plan.config = config;
  plan.data = find_data(config);
  ModelConfig& model = plan.config.model;
  SMOE_CHECK(model.vocab_size > 0 || plan.data,
             config.data.sources.empty() ? "data.path" : "data.sources", ": there is no ",
             missing_set(config.data),
             ", from which model.vocab_size=0 is resolved; make it with `smoe prepare`, or set ",
             "model.vocab_size");
  if (model.vocab_size == 0) model.vocab_size = plan.data->vocab_size;
  plan.groups = parameter_groups(model);
  plan.size = model_size(model);
  plan.flops = flops_per_token(model, config.train.seq_len, config.train.recompute,
                               config.train.recompute_layers);
  StepCost step;
  {
    const InstrumentScope scope(step);
    plan.memory = plan_memory(plan.config);
  }
  plan.step = step.total();
  if (num_ranks > 1) plan.ranks = plan_ranks(plan);
  plan.warnings = warnings_of(plan, device_bytes > 0 ? device_bytes : device_bytes_here(config));
  return plan;
}

}  // namespace smoe
