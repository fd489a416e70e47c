// Every differentiable op, with its contract. Dimensions: B batch, S sequence, T = B*S tokens,
// D model width, F expert width, H heads, C head dim, V vocabulary, E experts, K top_k, N = T*K
// routed rows. Activations are f32, bf16 or f64; weights have the same dtype unless said otherwise.
// Ops throw UsageError when shapes or dtypes do not fit, before anything is computed.
//
// Weight gradients are accumulated straight into Parameter::gradient() in the master dtype (beta).
#pragma once
#include <span>

#include "autograd/parameter.h"
#include "autograd/routing_plan.h"
#include "autograd/variable.h"
#include "kernels/activation.h"
#include "kernels/attention.h"
#include "kernels/grouped_gemm.h"
#include "kernels/routing.h"

namespace smoe {

using kernels::Activation;
using kernels::AttentionShape;
using kernels::RouterScore;
using kernels::RowLayout;

// ---- elementwise (ops/elementwise.cpp) ---------------------------------------------------------

/// a + b, same shape and dtype.
Variable add(const Variable& a, const Variable& b);

/// sum += x, same shape and dtype, for figures to watch. Not differentiable.
void accumulate(const Variable& x, const Tensor& sum);

/// x times uniform [1-epsilon, 1+epsilon), drawn from the stream (seed, a, b) and drawn again in
/// backward rather than saved.
Variable jitter(const Variable& x, double epsilon, std::uint64_t seed, std::uint64_t a,
                std::uint64_t b);

/// sum_i weight[i] * scalars[i] for one-element variables: a total loss from its terms. A term of
/// weight one gets the total's own gradient handed through, so that a loss stays a unit-gradient
/// loss.
Variable weighted_sum(std::span<const Variable> scalars, std::span<const double> weights);

// ---- dense (ops/linear.cpp, embedding.cpp) -----------------------------------------------------

/// y = x W^T: x [T, D_in], weight [D_out, D_in] -> [T, D_out] in x's dtype, or in the accumulation
/// dtype when the weight is full_precision (the router). Saves x; its backward writes dx over x
/// where nobody else refers to it.
Variable linear(const Variable& x, Parameter& weight);

/// Rows of weight [V, D] by token_ids i32 [T] -> [T, D]. The ids are trusted to be in [0, V): the
/// data reader checks them. The backward adds in token order: deterministic.
Variable embedding(const Tensor& token_ids, Parameter& weight);

// ---- norms (ops/norm.cpp) ----------------------------------------------------------------------

/// y = x / sqrt(mean(x^2) + epsilon) * weight, over the last dimension (arXiv:1910.07467).
/// x [T, D], weight [D] full_precision. Saves x and one number a row, from which y is computed
/// again for those that save it.
Variable rms_norm(const Variable& x, Parameter& weight, double epsilon);

struct ResidualNorm {
  Variable sum;     ///< [T, D], residual + delta; the residual itself without a delta
  Variable normed;  ///< [T, D], rms_norm(sum)
};
/// Residual add and RMSNorm in one pass; the delta may be undefined. Saves what rms_norm(sum) does,
/// and `normed` is computed again like its output; the backward joins both outputs' gradients in
/// one pass too and gives the same tensor to residual and delta.
ResidualNorm add_rms_norm(const Variable& residual, const Variable& delta, Parameter& weight,
                          double epsilon);

// ---- attention (ops/rotary.cpp, ops/attention.cpp) ---------------------------------------------

/// Rotary position embedding (arXiv:2104.09864), half-split form, on the query and key heads of a
/// packed projection qkv [T, (H + 2 Hkv) C]; positions in each sequence count from
/// `first_position`. Works in place when qkv is the sole reference to its storage (move it in);
/// saves nothing.
Variable rotary(Variable qkv, const AttentionShape& shape, double theta,
                std::int64_t first_position = 0);

/// Causal grouped-query attention: qkv [T, (H + 2 Hkv) C] -> [T, H C], scale 1/sqrt(C). Saves qkv,
/// the output and one number a query and head; never holds more than a block of rows of scores. The
/// backward writes its gradient over the saved qkv where the tape holds the sole reference.
Variable causal_attention(const Variable& qkv, const AttentionShape& shape);

/// Attention of the next S rows of each sequence, after `num_cached` rows whose keys and values
/// `cache` [B, capacity, 2 Hkv C] holds: appends those of the new rows to it and returns [T, H C].
/// For generation alone; also throws UsageError where ops are recorded.
Tensor cached_attention(const Tensor& qkv, const AttentionShape& shape, const Tensor& cache,
                        std::int64_t num_cached);

/// Row S-1 of each sequence: x [B*S, D] -> [B, D], a view of x where the rows lie side by side.
/// Not differentiable.
Tensor last_rows(const Tensor& x, std::int64_t num_sequences);

// ---- experts (ops/routing.cpp, parallel_linear.cpp, activation.cpp, combine.cpp, moe_mlp.cpp) --

struct Routing {
  RoutingPlan plan;
  Variable gates;         ///< [T, K], accumulation dtype
  Variable balance_loss;  ///< [1]: E sum_e f_e P_e, f the share of rows, P the mean probability; 1
                          ///< at balance
  Variable z_loss;        ///< [1]: mean over tokens of logsumexp(logits)^2
};
/// Top-k routing of router logits [T, E] (accumulation dtype), with the losses that keep it
/// healthy; `selection_bias` f32 [E] (may be undefined) is added to the scores for the choice only
/// (sigmoid). Ties go to the lower expert. Saves logits, gates and plan. Source: arXiv:2101.03961
/// eq. 4 (balance), arXiv:2202.08906 eq. 5 (z), arXiv:2408.15664 (bias).
Routing route(const Variable& logits, std::int64_t top_k, RouterScore score,
              const Tensor& selection_bias);

/// route with the choice made already: each token's experts are `expert_ids` i32 [T, K], trusted to
/// be distinct and in [0, E); gates, losses and gradients are those of that choice.
Routing route_to(const Variable& logits, const Tensor& expert_ids, RouterScore score);

/// route for the same logits computed once more: outputs, gradients and what is saved are those of
/// the `earlier` call, whose choice of experts stands whatever the logits hold now.
Routing route_again(const Variable& logits, const Routing& earlier, RouterScore score);

/// load[e] += rows that the plan sends to expert e; load i64 [E]. Not differentiable.
void add_expert_load(const RoutingPlan& plan, const Tensor& load);

/// bias[e] += rate * sign(mean of load - load[e]): the balancing of arXiv:2408.15664, once an
/// optimizer step. bias f32 [E], load i64 [E] over the step's micro-batches. Not differentiable.
void update_selection_bias(const Tensor& bias, const Tensor& load, double rate);

struct ParallelLinearOptions {
  RowLayout input = RowLayout::scattered;
  RowLayout output = RowLayout::grouped;
  Parameter* bias = nullptr;  ///< [E, D_out]
};
/// ParallelLinear (arXiv:2403.08245, Algorithms 1 and 2): row p goes through its expert's weight.
/// weight [E, D_out, D_in]. Input: grouped [N, D_in]; scattered [N, D_in] in (token, slot) order,
/// or [T, D_in] where each token's row serves its K experts. Output [N, D_out], grouped or
/// scattered. With `gates` [T, K] the output is [T, D_out] = sum_j gates[t, j] y[t, j], and
/// `output` has no say. Saves x and, with gates, y [N, D_out], over which the backward writes y's
/// gradient. The input gradient is written over x where nobody else refers to it; for x [T, D_in]
/// it is summed from an [N, D_in] buffer. x and dy are gathered inside the products, never copied.
Variable parallel_linear(const Variable& x, Parameter& weight, const RoutingPlan& plan,
                         const ParallelLinearOptions& options = {}, const Variable& gates = {});

/// Expert non-linearity on pre-activations: gated kinds [N, 2 F] or [N, 2, F] (gate half first) ->
/// [N, F], plain kinds [N, F] -> [N, F]. Saves h; its backward writes dh over h where it is the
/// sole reference.
Variable activation(const Variable& h, Activation kind);

/// The experts' MLP in its fused form: x [T, D], gates [T, K] -> [T, D] =
/// sum_j gates[t, j] W2[e] act(W1[e] x[t]). w1 [E, 2, F, D] for gated activations (gate rows
/// first), [E, F, D] for plain ones; w2 [E, D, F]. Saves x, gates and the pre-activations alone;
/// the gates' gradient is <dA', A>, dh overwrites h, and dx the output's gradient where nobody else
/// refers to that. The backward needs one more array of N rows of the wider of D and F. With
/// `recompute` the pre-activations are not saved but computed again, to the same bits.
Variable moe_mlp(const Variable& x, const Variable& gates, const RoutingPlan& plan, Parameter& w1,
                 Parameter& w2, Activation kind, bool recompute = false);

// ---- loss (ops/lm_head_loss.cpp) ---------------------------------------------------------------

/// Mean cross-entropy of the next token: logits = x W^T, x [T, D], weight [V, D], targets i32 [T];
/// a target of -1 does not count. Returns `scale` * sum of losses [1] in the accumulation dtype.
/// Works in chunks of `chunk` tokens and never holds [T, V]: while recording, the forward computes
/// dx and adds the weight gradient at once, so its loss must reach the total with weight one (put
/// factors into `scale`); the backward checks that. Without recording no gradient is computed.
Variable lm_head_loss(const Variable& x, Parameter& weight, const Tensor& targets, double scale,
                      std::int64_t chunk = 2048);

}  // namespace smoe
