// All ops on variables, with their contracts. Dimensions: B batch, S sequence, T = B*S tokens,
// D model width, F expert width, H heads, C head dim, V vocabulary, E experts, K top_k, N = T*K
// routed rows. Activations are f32, bf16 or f64; weights have the same dtype unless stated
// otherwise. Ops throw UsageError if shapes or dtypes do not fit, before anything is computed.
//
// Weight gradients accumulate straight into Parameter::gradient() (beta). Sums, including beta
// times what is there, are in the accumulation dtype; bf16 gradients are rounded once per call of a
// kernel, which is per backward call but for lm_head_loss, where it is per chunk.
#pragma once
#include <memory>
#include <span>
#include <variant>
#include <vector>

#include "autograd/parameter.h"
#include "autograd/routing_plan.h"
#include "autograd/variable.h"
#include "kernels/activation.h"
#include "kernels/attention.h"
#include "kernels/grouped_gemm.h"
#include "kernels/routing.h"

namespace smoe {

struct RotaryTable;

using kernels::Activation;
using kernels::AttentionShape;
using kernels::RouterScore;
using kernels::RowLayout;

// ---- elementwise (ops/elementwise.cpp) ---------------------------------------------------------

/// a + b, same shape and dtype.
Variable add(const Variable& a, const Variable& b);

/// x times uniform [1-epsilon, 1+epsilon), drawn from the stream (seed, a, b); backward draws the
/// same numbers again instead of saving them.
Variable jitter(const Variable& x, double epsilon, std::uint64_t seed, std::uint64_t a,
                std::uint64_t b);

/// factor * x.
Variable scale(const Variable& x, double factor);

/// x / (1 - probability), or 0 with the given probability in [0, 1), per element, drawn from the
/// stream (seed, a, b); backward draws the same numbers again instead of saving a mask. Draw from
/// another stream in each step and layer.
Variable dropout(const Variable& x, double probability, std::uint64_t seed, std::uint64_t a,
                 std::uint64_t b);

/// sum_i weights[i] * scalars[i] for one-element variables: a total loss from its terms. A term
/// with weight one receives the total's own gradient tensor, so that is_unit still holds for it.
Variable weighted_sum(std::span<const Variable> scalars, std::span<const double> weights);

// ---- shape (ops/shape.cpp) ---------------------------------------------------------------------

/// The same elements in another shape. Shares x's storage; nothing is copied in either direction.
Variable reshape(const Variable& x, const Shape& shape);

/// Matrices [T, D_i] of one dtype side by side -> [T, sum_i D_i], a copy.
Variable concat_columns(std::span<const Variable> parts);

/// x [T, sum_i widths[i]] -> one matrix [T, widths[i]] per width, each a copy of its columns.
std::vector<Variable> split_columns(const Variable& x, std::span<const std::int64_t> widths);

// ---- dense (ops/linear.cpp, bias.cpp, embedding.cpp) -------------------------------------------

/// y = x W^T: x [T, D_in], weight [D_out, D_in] -> [T, D_out] in x's dtype, or in the accumulation
/// dtype if the weight is full_precision (the router). Saves x; backward writes dx over x if it
/// holds the sole reference.
Variable linear(const Variable& x, Parameter& weight);

/// x [T, D] + bias [D] in every row, rounded once. Works in place if x is the sole reference to its
/// storage (move it in); saves nothing.
Variable add_bias(Variable x, Parameter& bias);

/// Rows of weight [V, D] by token_ids i32 [T] -> [T, D]. The ids are trusted to be in [0, V): the
/// data reader checks them. Backward accumulates in token order: deterministic.
Variable embedding(const Tensor& token_ids, Parameter& weight);

// ---- norms (ops/norm.cpp) ----------------------------------------------------------------------

/// y = x / sqrt(mean(x^2) + epsilon) * weight, over the last dimension (arXiv:1910.07467).
/// x [T, D], weight [D] full_precision. Saves x and one number per row, from which y is
/// rematerialized for ops that save it. Backward sums the gradients of moe_mlp and of one linear op
/// with few outputs itself, unrounded, where it reads them: the result is that of combine, the
/// linear op's GEMM and their sum up to rounding.
Variable rms_norm(const Variable& x, Parameter& weight, double epsilon);

struct ResidualNorm {
  Variable sum;     ///< [T, D], residual + delta; the residual itself without a delta
  Variable normed;  ///< [T, D], rms_norm(sum)
};
/// Residual add and RMSNorm in one pass; the delta may be undefined. Saves the same as
/// rms_norm(sum), and `normed` is rematerialized and its gradient summed in the same way; backward
/// combines both outputs' gradients in one pass and gives the same tensor to residual and delta.
/// A delta from moe_mlp is summed over its rows in the same pass, with the bits of combine and add.
ResidualNorm add_rms_norm(const Variable& residual, const Variable& delta, Parameter& weight,
                          double epsilon);

// ---- attention (ops/rotary.cpp, ops/attention.cpp) ---------------------------------------------

/// Rotary position embedding (arXiv:2104.09864), half-split form, on the query and key heads of a
/// packed projection qkv [T, (H + 2 Hkv) C]; positions in each sequence count from
/// `first_position`. With Hkv = 0 it rotates queries [T, H C] alone, with H = 0 keys and values
/// [T, 2 Hkv C]. Works in place if qkv is the sole reference to its storage (move it in); saves
/// nothing. Sines and cosines are computed in double, once for all calls that share a `table` and
/// its positions.
Variable rotary(Variable qkv, const AttentionShape& shape, double theta,
                std::int64_t first_position = 0, std::shared_ptr<RotaryTable> table = nullptr);

/// rotary(linear(x, weight), ...) with what they save: x [T, D], weight [(H + 2 Hkv) C, D]. On
/// Hopper one GEMM rotates bf16 projections with heads of 64 or 128 if there are rows enough, and
/// rounds them once, not twice.
Variable rotary_linear(const Variable& x, Parameter& weight, const AttentionShape& shape,
                       double theta, std::int64_t first_position = 0,
                       std::shared_ptr<RotaryTable> table = nullptr);

/// Causal grouped-query attention, also with interleaved heads: qkv [T, (H + 2 Hkv) C] -> [T, H C],
/// scale 1/sqrt(C). Saves qkv,
/// the output and one number per query and head; never holds more than a block of rows of scores.
/// Backward writes dqkv over the saved qkv if it holds the sole reference, but not with cuDNN,
/// which would need a copy for it.
Variable causal_attention(const Variable& qkv, const AttentionShape& shape);
/// The same on queries q [T, H C] and keys and values kv [T, 2 Hkv C] (key heads first) apart, in
/// one dtype. Backward writes dq over q and dkv over kv where it holds the sole reference, but not
/// with cuDNN.
Variable causal_attention(const Variable& q, const Variable& kv, const AttentionShape& shape);

// ---- experts (ops/routing.cpp, parallel_linear.cpp, activation.cpp, moe_mlp.cpp) ---------------

struct Routing {
  RoutingPlan plan;
  Variable gates;         ///< [T, K], accumulation dtype
  Variable balance_loss;  ///< [1]: E sum_e f_e P_e, f the share of rows, P the mean probability; 1
                          ///< at balance
  Variable z_loss;        ///< [1]: mean over tokens of logsumexp(logits)^2
};
/// Chooses the K experts with the highest scores; the lower expert wins a tie.
struct TopK {
  std::int64_t top_k = 1;
  Tensor selection_bias = {};  ///< f32 [E], added to the scores for the choice only (sigmoid only)
};
/// The experts of each token: chosen by score, or given. A given plan's ids are trusted to be
/// distinct per token.
using ExpertChoice = std::variant<TopK, RoutingPlan>;
/// Routes tokens by router logits [T, E] (accumulation dtype): plan, gates, and the auxiliary
/// losses that balance the load and bound the logits. With a given plan the gates are those of its
/// experts, bit-identical to a choice of the same experts by score. Saves logits, gates and plan.
/// Source: arXiv:2101.03961 eq. 4 (balance), arXiv:2202.08906 eq. 5 (z), arXiv:2408.15664 (bias).
Routing route(const Variable& logits, RouterScore score, const ExpertChoice& choice);

struct ParallelLinearOptions {
  RowLayout input = RowLayout::scattered;
  RowLayout output = RowLayout::grouped;
  Parameter* bias = nullptr;  ///< [E, D_out]
};
/// ParallelLinear (arXiv:2403.08245, Algorithms 1 and 2): each row is multiplied by its expert's
/// weight. weight [E, D_out, D_in]. Input: grouped [N, D_in]; scattered [N, D_in] in (token, slot)
/// order, or [T, D_in], where each token's row is used by its K experts. Output [N, D_out], grouped
/// or scattered. With `gates` [T, K] the output is [T, D_out] = sum_j gates[t, j] y[t, j]; `output`
/// is ignored. Saves x and, with gates, y, over which backward writes dy; not y where the gates can
/// scale x: without bias, scattered [N, D_in <= D_out]. dx is written over x if backward holds the
/// sole reference; for x [T, D_in] it is reduced from [N, D_in]. Only scaled rows are copied, and
/// on Hopper the narrower of x and dy where both are scattered: to the memory of dx or of what it
/// is reduced from, or to a workspace where that is x or no dx is wanted.
Variable parallel_linear(const Variable& x, Parameter& weight, const RoutingPlan& plan,
                         const ParallelLinearOptions& options = {}, const Variable& gates = {});

/// Expert activation on pre-activations: gated kinds [N, 2 F] or [N, 2, F] (GLU half first) ->
/// [N, F], plain kinds [N, F] -> [N, F]. Saves h; backward writes dh over h if it holds the sole
/// reference.
Variable activation(const Variable& h, Activation kind);

/// The experts' MLP in its fused form: x [T, D], gates [T, K] -> [T, D] =
/// sum_j gates[t, j] W2[e] act(W1[e] x[t]). w1 [E, 2, F, D] for gated activations (GLU rows
/// first), [E, F, D] for plain ones; w2 [E, D, F]. Saves only x, gates and the pre-activations h;
/// dgates is <dA', A>, dh overwrites h, and dx overwrites dout if backward holds the sole
/// reference. Backward needs one more array of N rows of max(D, F) columns. With `recompute` h is
/// not saved but recomputed, bit-identically.
Variable moe_mlp(const Variable& x, const Variable& gates, const RoutingPlan& plan, Parameter& w1,
                 Parameter& w2, Activation kind, bool recompute = false);

// ---- losses (ops/losses.cpp, lm_head_loss.cpp) -------------------------------------------------
// Each returns one element in the accumulation dtype of its input, accumulated in double.

/// Sum of all elements of x.
Variable sum(const Variable& x);

/// Mean over all elements of (x - target)^2. No gradient flows to `target`. Saves x and target;
/// backward writes dx over x if it holds the sole reference.
Variable mean_squared_error(const Variable& x, const Tensor& target);

/// `scale` * sum over rows of -log softmax(logits)[target]: logits [T, V], targets i32 [T] in
/// [0, V), or -1 for rows that are ignored. For vocabularies use lm_head_loss, which never holds
/// [T, V]. Saves logits and targets; backward writes dlogits over the logits if it holds the sole
/// reference.
Variable softmax_cross_entropy(const Variable& logits, const Tensor& targets, double scale = 1);

/// Cross-entropy of the next token: logits = x W^T, x [T, D], weight [V, D], targets i32 [T]; a
/// target of -1 is ignored. Returns `scale` * sum of losses [1] in the accumulation dtype.
/// Works in chunks of `chunk` tokens and never holds logits [T, V]: while recording, the forward
/// computes dx and accumulates the weight gradient at once, so its loss must reach the total with
/// weight one (put factors into `scale`); the backward checks that. Computes no gradient without
/// recording.
Variable lm_head_loss(const Variable& x, Parameter& weight, const Tensor& targets, double scale,
                      std::int64_t chunk = 4096);

// ---- not differentiable ------------------------------------------------------------------------

/// values[i] = weights[i] * scalars[i], f64, of one-element variables of one dtype, so that they
/// can be read at once (ops/elementwise.cpp).
void gather_scalars(std::span<const Variable> scalars, std::span<const double> weights,
                    const Tensor& values);

/// Row S-1 of each sequence: x [B*S, D] -> [B, D], a view of x if those rows are contiguous
/// (ops/elementwise.cpp).
Tensor last_rows(const Tensor& x, std::int64_t num_sequences);

/// Attention of the next S rows of each sequence, which follow the `num_cached` rows whose keys and
/// values are in `cache` [B, capacity, 2 Hkv C]: appends those of the new rows to it and returns
/// [T, H C] (ops/attention.cpp). For generation only; throws UsageError while ops are recorded.
Tensor cached_attention(const Tensor& qkv, const AttentionShape& shape, const Tensor& cache,
                        std::int64_t num_cached);
/// The same on queries q [T, H C] and keys and values kv [T, 2 Hkv C] apart.
Tensor cached_attention(const Tensor& q, const Tensor& kv, const AttentionShape& shape,
                        const Tensor& cache, std::int64_t num_cached);

/// The plan of given experts: expert_ids i32 [T, K], each trusted to be in [0, num_experts)
/// (ops/routing.cpp). Throws: UsageError for another shape or dtype, or for 2^31 rows or more.
RoutingPlan plan_routing(const Tensor& expert_ids, std::int64_t num_experts);

/// totals[l] += [rows of each expert, balance loss, z loss] of layers[l]; totals f64 [layers, E +
/// 2] (ops/routing.cpp). Throws: UsageError for another shape.
void add_routing(std::span<const Routing> layers, const Tensor& totals);

}  // namespace smoe
