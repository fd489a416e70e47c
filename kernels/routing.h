// Routing: scores, top-k, losses, counting sort by expert, and their backward. Every shape is fixed
// by T, K and E, so nothing waits for the device.
//
// With z = logits, or log sigmoid(logits) for the sigmoid score, all modes share two softmaxes:
// the probabilities q[t] = softmax(z[t]) over E, and the gates, which are q at the chosen experts
// or the softmax of z over the chosen experts alone. The second is q (or sigmoid) divided by its
// sum over the chosen, without that sum's underflow.
#pragma once
#include "core/base/launch.h"
#include "core/base/matrix.h"
#include "kernels/routing_view.h"

namespace smoe::kernels {

/// How router logits [T, E] become gates [T, K].
enum class RouterScore : std::uint8_t {
  softmax_topk_renorm,  ///< softmax over E, top-k, divided by their sum (Mixtral)
  softmax_topk,         ///< softmax over E, top-k, as they are (Switch, OLMoE)
  topk_softmax,         ///< top-k of the logits, softmax over the K
  sigmoid,              ///< sigmoid, top-k of score + selection bias, gates = scores / their sum
};

/// Chooses each token's experts and weighs them. The choice is by falling logit (a softmax keeps
/// their order), or by falling sigmoid + selection bias; the lower expert wins a tie and a NaN
/// ranks below every number, so that the K experts of a token are distinct and in [0, E) whatever
/// the logits hold.
struct RouterForwardArgs {
  ConstMatrix logits;           // [T, E], f32 or f64
  const float* selection_bias;  // [E], null: none. Read by the sigmoid score only
  RouterScore score;
  std::int64_t top_k;        // K, 1 to E
  void* gates;               // [T, K], logits' dtype
  std::int32_t* expert_ids;  // [T, K], written; read where the choice is made already
  double* sums;  ///< [E + 1]: sum over tokens of q, then of logsumexp(logits)^2; in fixed order
  bool is_chosen = false;     ///< expert_ids hold the choice: it is weighed alone
  void* workspace = nullptr;  ///< router_forward_workspace_bytes()
};
void router_forward(const Launch& launch, const RouterForwardArgs& args);
std::int64_t router_forward_workspace_bytes(const Launch& launch, const RouterForwardArgs& args);

/// Stable counting sort of the pairs (token, slot) by expert. See autograd/routing_plan.h for what
/// the three results mean.
struct GroupByExpertArgs {
  const std::int32_t* expert_ids;  // [N], each in [0, E)
  std::int64_t num_rows;           // N, at most 2^31 - 1
  std::int64_t num_experts;        // E
  std::int32_t* sorted_scattered_ids;
  std::int32_t* grouped_rows;
  std::int32_t* expert_offsets;
  void* workspace = nullptr;  ///< group_by_expert_workspace_bytes()
};
void group_by_expert(const Launch& launch, const GroupByExpertArgs& args);
std::int64_t group_by_expert_workspace_bytes(const Launch& launch, const GroupByExpertArgs& args);

/// balance_loss = E sum_e f_e P_e with f_e = rows of e / N and P_e = mean of q over tokens
/// (arXiv:2101.03961 eq. 4); z_loss = mean of logsumexp(logits)^2 (arXiv:2202.08906 eq. 5). Both
/// are 0 without tokens.
struct RouterLossesArgs {
  const double* sums;                  // [E + 1], from router_forward
  const std::int32_t* expert_offsets;  // [E + 1]
  std::int64_t num_tokens;
  std::int64_t num_experts;
  void* balance_loss;  // [1]
  void* z_loss;        // [1]
  DType dtype;         ///< of both losses: f32 or f64
};
void router_losses(const Launch& launch, const RouterLossesArgs& args);

/// dlogits from the gradients of gates and losses, the choice of experts held fixed. The
/// probabilities are computed again from the logits.
struct RouterBackwardArgs {
  ConstMatrix logits;                  // [T, E], f32 or f64: the dtype of all below
  const std::int32_t* expert_ids;      // [T, K]
  const std::int32_t* expert_offsets;  // [E + 1]
  const void* gates;                   // [T, K]
  RouterScore score;
  std::int64_t top_k;
  const void* dgates;         // [T, K]; null: zero
  const void* dbalance_loss;  // [1]; null: zero
  const void* dz_loss;        // [1]; null: zero
  Matrix dlogits;             // [T, E], written
};
void router_backward(const Launch& launch, const RouterBackwardArgs& args);

/// load[e] += rows of expert e: counts over the micro-batches of a step.
struct AddExpertLoadArgs {
  const std::int32_t* expert_offsets;  // [E + 1]
  std::int64_t num_experts;
  std::int64_t* load;  // [E]
};
void add_expert_load(const Launch& launch, const AddExpertLoadArgs& args);

}  // namespace smoe::kernels
