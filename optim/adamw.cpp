#include "optim/adamw.h"

#include "core/device.h"

namespace smoe {
namespace {

void check_config(const OptimConfig& config) {
  const auto is_beta = [](double beta) { return beta >= 0 && beta < 1; };
  SMOE_CHECK(is_beta(config.beta1), "adamw: beta1 must be in [0, 1); got ", config.beta1);
  SMOE_CHECK(is_beta(config.beta2), "adamw: beta2 must be in [0, 1); got ", config.beta2);
  SMOE_CHECK(config.epsilon > 0, "adamw: epsilon must be positive; got ", config.epsilon);
  SMOE_CHECK(config.weight_decay >= 0, "adamw: weight_decay must not be negative; got ",
             config.weight_decay);
  SMOE_CHECK(
      config.moments != DType::bf16 || 1 - config.beta2 >= 0x1p-7,
      "adamw: with bf16 moments 1 - beta2 must be at least 2^-7=0.0078125, since they round ",
      "smaller changes of the second moment away; got beta2=", config.beta2);
}

/// Adds a range; it is one with the last one if they are adjacent in all buffers.
void append(std::vector<kernels::AdamwRange>& ranges, const kernels::AdamwRange& range) {
  if (!ranges.empty()) {
    kernels::AdamwRange& last = ranges.back();
    if (last.weight + last.numel == range.weight && last.gradient + last.numel == range.gradient &&
        last.moment + last.numel == range.moment && last.weight_decay == range.weight_decay) {
      last.numel += range.numel;
      return;
    }
  }
  ranges.push_back(range);
}

}  // namespace

AdamW::AdamW(ParameterStore& store, const OptimConfig& config) : store_(store), config_(config) {
  check_config(config);
  const bool has_full_precision = !store.full_precision().shares_storage(store.compute());
  std::int64_t at = 0;  // of the own range among own elements
  for (const Range& own : store.own()) {
    for (const Parameter* parameter : store.trained()) {
      const std::int64_t offset = store.offset_of(*parameter);
      const Range common = overlap(own, {offset, offset + parameter->numel()});
      if (common.numel() == 0) continue;
      append(has_full_precision && parameter->full_precision() ? full_precision_ranges_ : ranges_,
             {.weight = store.value_offset_of(*parameter) + common.begin - offset,
              .gradient = common.begin,
              .moment = at + common.begin - own.begin,
              .numel = common.numel(),
              .weight_decay = parameter->decays() ? config.weight_decay : 0.0});
    }
    at += own.numel();
  }
  const DType dtype = config.moments == DType::bf16 ? DType::bf16 : store.master_dtype();
  m_ = Tensor::zeros({store.num_own()}, dtype, Category::optimizer);
  v_ = Tensor::zeros({store.num_own()}, dtype, Category::optimizer);
}

void AdamW::step(double lr, std::int64_t step_number, const Tensor& gradient_scale) {
  SMOE_CHECK(step_number >= 1, "adamw: step_number counts from 1; got ", step_number);
  SMOE_CHECK(!gradient_scale.defined() ||
                 (gradient_scale.dtype() == DType::f64 && gradient_scale.numel() == 1),
             "adamw: gradient_scale must be f64 [1]; got ", name_of(gradient_scale.dtype()), " ",
             gradient_scale.shape());
  kernels::AdamwArgs args{
      .weights = store_.compute().data(),
      .remainders = store_.is_split() ? store_.remainders().data_as<std::uint16_t>() : nullptr,
      .gradient = store_.gradient().data(),
      .m = m_.data(),
      .v = v_.data(),
      .dtype = store_.master_dtype(),
      .gradient_dtype = store_.gradient_dtype(),
      .moment_dtype = m_.dtype(),
      .ranges = ranges_,
      .lr = lr,
      .beta1 = config_.beta1,
      .beta2 = config_.beta2,
      .epsilon = config_.epsilon,
      .step = step_number,
      .gradient_scale = gradient_scale.defined() ? gradient_scale.data_as<double>() : nullptr};
  kernels::adamw(launch(), args);
  if (full_precision_ranges_.empty()) return;
  args.weights = store_.full_precision().data();
  args.remainders = nullptr;
  args.ranges = full_precision_ranges_;
  kernels::adamw(launch(), args);
}

void AdamW::visit_state(StateVisitor& visitor) {
  store_.visit_own(visitor, "optimizer.m/", m_);
  store_.visit_own(visitor, "optimizer.v/", v_);
}

void AdamW::visit_buffers(StateVisitor& visitor) {
  visitor.tensor("optimizer.m", m_);
  visitor.tensor("optimizer.v", v_);
}

}  // namespace smoe
