#include "optim/adamw.h"

#include "core/device.h"

namespace smoe {
namespace {

void check_config(const OptimConfig& config) {
  const auto is_beta = [](double beta) { return beta >= 0 && beta < 1; };
  SMOE_CHECK(is_beta(config.beta1), "optim.beta1: must be in [0, 1); got ", config.beta1);
  SMOE_CHECK(is_beta(config.beta2), "optim.beta2: must be in [0, 1); got ", config.beta2);
  SMOE_CHECK(config.epsilon > 0, "optim.epsilon: must be positive; got ", config.epsilon);
  SMOE_CHECK(config.weight_decay >= 0, "optim.weight_decay: must not be negative; got ",
             config.weight_decay);
}

}  // namespace

AdamW::AdamW(ParameterStore& store, const OptimConfig& config) : store_(store), config_(config) {
  check_config(config);
  for (const ParameterStore::Range& range : store.ranges())
    ranges_.push_back({range.offset, range.numel, range.decays ? config.weight_decay : 0.0});
  const Tensor& master = store.master();
  m_ = Tensor::zeros(master.shape(), master.dtype(), Category::optimizer);
  v_ = Tensor::zeros(master.shape(), master.dtype(), Category::optimizer);
}

void AdamW::step(double lr, std::int64_t step_number, const Tensor& gradient_scale) {
  SMOE_CHECK(step_number >= 1, "adamw: step_number counts from 1; got ", step_number);
  SMOE_CHECK(!gradient_scale.defined() ||
                 (gradient_scale.dtype() == DType::f64 && gradient_scale.numel() == 1),
             "adamw: gradient_scale must be f64 [1]; got ", name_of(gradient_scale.dtype()), " ",
             gradient_scale.shape());
  const Tensor& master = store_.master();
  const Tensor& compute = store_.compute();
  kernels::adamw(
      launch(),
      {.master = master.data(),
       .gradient = store_.gradient().data(),
       .m = m_.data(),
       .v = v_.data(),
       .dtype = master.dtype(),
       .compute_bf16 = compute.shares_storage(master) ? nullptr : compute.data(),
       .ranges = ranges_,
       .lr = lr,
       .beta1 = config_.beta1,
       .beta2 = config_.beta2,
       .epsilon = config_.epsilon,
       .step = step_number,
       .gradient_scale = gradient_scale.defined() ? gradient_scale.data_as<double>() : nullptr});
}

void AdamW::visit_state(StateVisitor& visitor) {
  store_.visit_arena(visitor, "optimizer.m/", m_);
  store_.visit_arena(visitor, "optimizer.v/", v_);
}

}  // namespace smoe
