// Cases of kernels/routing.h on the current stream.
#pragma once
#include <doctest/doctest.h>

#include <cmath>
#include <cstdint>
#include <limits>
#include <vector>

#include "autograd/ops/run_kernel.h"
#include "kernels/routing.h"
#include "tests/support/tensors.h"

namespace smoe::test {

inline constexpr kernels::RouterScore kRouterScores[] = {
    kernels::RouterScore::softmax_topk_renorm, kernels::RouterScore::softmax_topk,
    kernels::RouterScore::topk_softmax, kernels::RouterScore::sigmoid};

struct RoutingOutputs {
  Tensor gates, expert_ids, sums, sorted_scattered_ids, grouped_rows, offsets, balance_loss, z_loss;
};

/// Runs all forward kernels. If `expert_ids` i32 [T, K] is defined, it is the choice of experts.
inline RoutingOutputs run_routing(const Tensor& logits, const Tensor& bias, std::int64_t top_k,
                                  kernels::RouterScore score, const Tensor& expert_ids = {}) {
  const std::int64_t num_tokens = logits.dim(0), num_experts = logits.dim(1);
  const std::int64_t num_rows = num_tokens * top_k;
  const RoutingOutputs o{.gates = Tensor::empty({num_tokens, top_k}, logits.dtype()),
                         .expert_ids = expert_ids.defined()
                                           ? expert_ids
                                           : Tensor::empty({num_tokens, top_k}, DType::i32),
                         .sums = Tensor::empty({num_experts + 1}, DType::f64),
                         .sorted_scattered_ids = Tensor::empty({num_rows}, DType::i32),
                         .grouped_rows = Tensor::empty({num_rows}, DType::i32),
                         .offsets = Tensor::empty({num_experts + 1}, DType::i32),
                         .balance_loss = Tensor::empty({1}, logits.dtype()),
                         .z_loss = Tensor::empty({1}, logits.dtype())};
  run_kernel(kernels::router_forward, kernels::router_forward_workspace_bytes,
             {.logits = matrix_of(logits),
              .selection_bias = bias.defined() ? bias.data_as<float>() : nullptr,
              .score = score,
              .top_k = top_k,
              .gates = o.gates.data(),
              .expert_ids = o.expert_ids.data_as<std::int32_t>(),
              .sums = o.sums.data_as<double>(),
              .is_chosen = expert_ids.defined()});
  run_kernel(kernels::group_by_expert, kernels::group_by_expert_workspace_bytes,
             {.expert_ids = o.expert_ids.data_as<std::int32_t>(),
              .num_rows = num_rows,
              .num_experts = num_experts,
              .sorted_scattered_ids = o.sorted_scattered_ids.data_as<std::int32_t>(),
              .grouped_rows = o.grouped_rows.data_as<std::int32_t>(),
              .expert_offsets = o.offsets.data_as<std::int32_t>()});
  kernels::router_losses(launch(), {.sums = o.sums.data_as<double>(),
                                    .expert_offsets = o.offsets.data_as<std::int32_t>(),
                                    .num_tokens = num_tokens,
                                    .num_experts = num_experts,
                                    .balance_loss = o.balance_loss.data(),
                                    .z_loss = o.z_loss.data(),
                                    .dtype = logits.dtype()});
  return o;
}

/// NaN ranks below every number and infinities keep their order.
inline RoutingOutputs check_nonfinite_logits(kernels::RouterScore score) {
  const double nan = std::numeric_limits<double>::quiet_NaN(), inf = INFINITY;
  const Tensor logits = tensor_of({nan,  1,    nan,  0,    -inf,  //
                                   nan,  nan,  nan,  nan,  nan,   //
                                   -inf, -inf, -inf, -inf, inf,   //
                                   inf,  nan,  5,    inf,  -inf},
                                  {4, 5}, DType::f32);
  const RoutingOutputs outputs = run_routing(logits, {}, 4, score);
  CHECK(outputs.expert_ids.to_vector<std::int32_t>() ==
        std::vector<std::int32_t>{1, 3, 4, 0, 0, 1, 2, 3, 4, 0, 1, 2, 0, 3, 2, 4});
  CHECK(std::isnan(outputs.z_loss.item()));
  return outputs;
}

/// dlogits. An undefined gradient is zero.
inline Tensor run_router_backward(const Tensor& logits, const RoutingOutputs& o,
                                  kernels::RouterScore score, const Tensor& dgates,
                                  const Tensor& dbalance, const Tensor& dz) {
  const Tensor dlogits = Tensor::empty_like(logits);
  kernels::router_backward(launch(), {.logits = matrix_of(logits),
                                      .expert_ids = o.expert_ids.data_as<std::int32_t>(),
                                      .expert_offsets = o.offsets.data_as<std::int32_t>(),
                                      .gates = o.gates.data(),
                                      .score = score,
                                      .top_k = o.gates.dim(1),
                                      .dgates = data_or_null(dgates),
                                      .dbalance_loss = data_or_null(dbalance),
                                      .dz_loss = data_or_null(dz),
                                      .dlogits = matrix_of(dlogits)});
  return dlogits;
}

/// totals [layers, E + 2] += rows per expert and losses of layers that all have this routing.
inline void run_add_routing(const Tensor& offsets, const Tensor& balance, const Tensor& z,
                            const Tensor& totals) {
  const std::vector<kernels::LayerRouting> layers(
      totals.dim(0), {offsets.data_as<std::int32_t>(), balance.data(), z.data()});
  kernels::add_routing(launch(), {.layers = layers,
                                  .loss_dtype = balance.dtype(),
                                  .num_experts = totals.dim(1) - 2,
                                  .totals = totals.data_as<double>()});
}

}  // namespace smoe::test
