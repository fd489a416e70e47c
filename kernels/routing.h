// Routing: scores, top-k, auxiliary losses, counting sort by expert, and their backward. T, K and E
// determine every shape, so nothing waits for the device.
//
// With z = logits, or log sigmoid(logits) for the sigmoid score, all modes share two softmaxes:
// the probabilities q[t] = softmax(z[t]) over E, and the gates, which are q at the chosen experts
// or the softmax of z over only the chosen experts. The latter is q (or sigmoid) divided by its sum
// over the chosen experts, without the underflow of that sum.
#pragma once
#include <span>

#include "core/base/launch.h"
#include "core/base/matrix.h"
#include "kernels/model_types.h"
#include "kernels/routing_view.h"

namespace smoe::kernels {

/// Chooses each token's experts and computes their gates. Experts are chosen in descending order of
/// logit (a softmax keeps their order), or of sigmoid + selection bias. The lower expert wins a tie
/// and a NaN ranks below every number, so the K experts of a token are distinct and in [0, E) for
/// all logits.
struct RouterForwardArgs {
  ConstMatrix logits;           ///< [T, E], f32 or f64
  const float* selection_bias;  ///< [E], or null. Read by the sigmoid score only
  RouterScore score;
  std::int64_t top_k;        ///< K, 1 to E
  void* gates;               ///< [T, K], logits' dtype
  std::int32_t* expert_ids;  ///< [T, K], written; read if is_chosen
  double* sums;  ///< [E + 1]: sum over tokens of q, then of logsumexp(logits)^2; in fixed order
  bool is_chosen = false;  ///< expert_ids already hold the choice: only gates and sums are computed
  void* workspace = nullptr;  ///< router_forward_workspace_bytes()
};
void router_forward(const Launch& launch, const RouterForwardArgs& args);
std::int64_t router_forward_workspace_bytes(const Launch& launch, const RouterForwardArgs& args);

/// Stable counting sort of the pairs (token, slot) by expert. RoutingView defines the three
/// results.
struct GroupByExpertArgs {
  const std::int32_t* expert_ids;      ///< [N], each in [0, E)
  std::int64_t num_rows;               ///< N, at most 2^31 - 1
  std::int64_t num_experts;            ///< E
  std::int32_t* sorted_scattered_ids;  ///< [N]
  std::int32_t* grouped_rows;          ///< [N]
  std::int32_t* expert_offsets;        ///< [E+1]
  void* workspace = nullptr;           ///< group_by_expert_workspace_bytes()
};
void group_by_expert(const Launch& launch, const GroupByExpertArgs& args);
std::int64_t group_by_expert_workspace_bytes(const Launch& launch, const GroupByExpertArgs& args);

/// balance_loss = E sum_e f_e P_e, f_e = (rows of expert e) / N, P_e = mean of q[., e] over tokens
/// (arXiv:2101.03961 eq. 4); z_loss = mean of logsumexp(logits)^2 (arXiv:2202.08906 eq. 5). Both
/// are 0 without tokens.
struct RouterLossesArgs {
  const double* sums;                  ///< [E + 1], from router_forward
  const std::int32_t* expert_offsets;  ///< [E + 1]
  std::int64_t num_tokens;
  std::int64_t num_experts;
  void* balance_loss;  ///< [1]
  void* z_loss;        ///< [1]
  DType dtype;         ///< of both losses: f32 or f64
};
void router_losses(const Launch& launch, const RouterLossesArgs& args);

/// dlogits from the gradients of the gates and losses, with the choice of experts held fixed. The
/// probabilities are recomputed from the logits.
struct RouterBackwardArgs {
  ConstMatrix logits;                  ///< [T, E], f32 or f64: the dtype of everything below
  const std::int32_t* expert_ids;      ///< [T, K]
  const std::int32_t* expert_offsets;  ///< [E + 1]
  const void* gates;                   ///< [T, K]
  RouterScore score;
  std::int64_t top_k;
  const void* dgates;         ///< [T, K]; null: zero
  const void* dbalance_loss;  ///< [1]; null: zero
  const void* dz_loss;        ///< [1]; null: zero
  Matrix dlogits;             ///< [T, E], written
};
void router_backward(const Launch& launch, const RouterBackwardArgs& args);

/// What one layer's routing adds to the totals of a step.
struct LayerRouting {
  const std::int32_t* expert_offsets;  ///< [E + 1]
  const void* balance_loss;            ///< [1]
  const void* z_loss;                  ///< [1]
};

/// totals[l] += [rows of each expert, balance loss, z loss] of layer l, for all layers at once.
/// Accumulates over the micro-batches of a step, in double: counts are exact.
struct AddRoutingArgs {
  std::span<const LayerRouting> layers;  ///< in host memory
  DType loss_dtype;                      ///< f32 or f64
  std::int64_t num_experts;              ///< E
  double* totals;                        ///< [layers, E + 2]
};
void add_routing(const Launch& launch, const AddRoutingArgs& args);

}  // namespace smoe::kernels
