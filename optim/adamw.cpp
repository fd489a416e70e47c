#include "optim/adamw.h"

#include <algorithm>

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
}

/// The store's ranges within a part of its buffers, with offsets relative to the part.
std::vector<kernels::AdamwRange> ranges_in(const ParameterStore& store, const Range& part,
                                           const OptimConfig& config) {
  std::vector<kernels::AdamwRange> ranges;
  for (const ParameterStore::DecayRange& range : store.ranges()) {
    const std::int64_t begin = std::max(range.offset, part.begin);
    const std::int64_t end = std::min(range.offset + range.numel, part.end);
    if (begin < end)
      ranges.push_back({begin - part.begin, end - begin, range.decays ? config.weight_decay : 0.0});
  }
  return ranges;
}

}  // namespace

AdamW::AdamW(ParameterStore& store, const OptimConfig& config, Shards shards)
    : store_(store), config_(config), shards_(std::move(shards)) {
  check_config(config);
  for (const Range& part : shards_.own()) ranges_.push_back(ranges_in(store, part, config));
  const DType dtype = store.master().dtype();
  m_ = Tensor::zeros({shards_.num_own()}, dtype, Category::optimizer);
  v_ = Tensor::zeros({shards_.num_own()}, dtype, Category::optimizer);
}

void AdamW::step(double lr, std::int64_t step_number, const Tensor& gradient_scale) {
  SMOE_CHECK(step_number >= 1, "adamw: step_number counts from 1; got ", step_number);
  SMOE_CHECK(!gradient_scale.defined() ||
                 (gradient_scale.dtype() == DType::f64 && gradient_scale.numel() == 1),
             "adamw: gradient_scale must be f64 [1]; got ", name_of(gradient_scale.dtype()), " ",
             gradient_scale.shape());
  const Tensor& master = store_.master();
  const Tensor& compute = store_.compute();
  const bool has_compute = !compute.shares_storage(master);
  std::int64_t at = 0;  // of the part in the moments
  for (std::size_t i = 0; i < ranges_.size(); ++i) {
    const auto [begin, end] = shards_.own()[i];
    const auto in_buffer = [&](const Tensor& buffer) {
      return buffer.view(begin, {end - begin}).data();
    };
    const auto in_moment = [&](const Tensor& moment) {
      return moment.view(at, {end - begin}).data();
    };
    kernels::adamw(
        launch(),
        {.master = in_buffer(master),
         .gradient = in_buffer(store_.gradient()),
         .m = in_moment(m_),
         .v = in_moment(v_),
         .dtype = master.dtype(),
         .compute_bf16 = has_compute ? in_buffer(compute) : nullptr,
         .ranges = ranges_[i],
         .lr = lr,
         .beta1 = config_.beta1,
         .beta2 = config_.beta2,
         .epsilon = config_.epsilon,
         .step = step_number,
         .gradient_scale = gradient_scale.defined() ? gradient_scale.data_as<double>() : nullptr});
    at += end - begin;
  }
}

void AdamW::visit_state(StateVisitor& visitor) {
  shards_.visit(visitor, "optimizer.m/", store_, m_);
  shards_.visit(visitor, "optimizer.v/", store_, v_);
}

}  // namespace smoe
