#include "train/plan/warnings.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "core/system/format.h"
#include "train/config/gate_rule.h"

namespace smoe {
namespace {

using Warnings = std::vector<PlanWarning>;

std::int64_t multiple_above(std::int64_t value, std::int64_t unit) {
  return (value + unit - 1) / unit * unit;
}

void warn_of_memory(const Plan& plan, std::int64_t device_bytes, Warnings& out) {
  if (device_bytes == 0 || plan.memory.total_peak_bytes <= device_bytes) return;
  out.push_back(
      {fmt::format("{} of memory at the peak, but the device has {}",
                   format_bytes(plan.memory.total_peak_bytes), format_bytes(device_bytes)),
       "the run would end with an out-of-memory error, or swap",
       "a smaller train.micro_batch (with the same train.global_batch), train.recompute=experts "
       "or block (in some layers: train.recompute_layers), train.precision=bf16, "
       "train.grad_dtype=bf16, optim.moments=bf16, or a smaller model"});
}

void warn_of_routing(const Plan& plan, Warnings& out) {
  const ModelConfig& m = plan.config.model;
  const RouterConfig& router = m.router;
  if (m.num_experts == m.top_k) {
    out.push_back(
        {fmt::format("model.top_k is model.num_experts, {}", m.num_experts),
         "every token is routed to every expert: routing costs time and nothing is sparse",
         fmt::format("model.num_experts={} or more, or a dense model", 4 * m.top_k)});
    return;  // the warnings below concern sparse routing
  }
  if (router.balance_loss == 0 && router.selection_bias_rate == 0)
    out.push_back(
        {"nothing balances the experts",
         "experts that are better early get more tokens and more gradient and stay "
         "better; the others die, and their parameters are wasted",
         fmt::format("model.router.balance_loss={:.2g}, or model.router.score=sigmoid with "
                     "model.router.selection_bias_rate=0.001",
                     0.01 * static_cast<double>(m.num_layers))});
  // The loss is a mean over layers, and each layer's router sees its own share of the coefficient.
  const auto num_layers = static_cast<double>(m.num_layers);
  const double share = router.balance_loss / num_layers;
  if (share > 0.05)
    out.push_back({fmt::format("model.router.balance_loss is {}, {:.2g} per layer",
                               router.balance_loss, share),
                   "its gradient dominates that of the language loss in the router: tokens are "
                   "spread evenly instead of routed to the best experts",
                   fmt::format("{:.2g} to {:.2g}, which is 0.001 to 0.02 per layer",
                               0.001 * num_layers, 0.02 * num_layers)});
  if (share > 1e-3 && router.selection_bias_rate > 0)
    out.push_back({"both a balance loss and a selection bias balance the experts",
                   "the bias is meant to replace the loss, which interferes with the language loss "
                   "(arXiv:2408.15664)",
                   "model.router.balance_loss=0.0001 or 0"});
  if (has_constant_gate(m))
    out.push_back(
        {"model.top_k is 1 with gates that sum to one",
         "the only gate is always 1, so the router gets no gradient from the language loss",
         "model.router.score=softmax_topk, or model.top_k=2"});
  if (router.z_loss == 0 && plan.config.train.precision == DType::bf16 &&
      router.score != RouterScore::sigmoid)
    out.push_back(
        {"no router z-loss with bf16",
         "nothing keeps the router's logits small; with large logits, bf16 rounding of the "
         "activations changes the selected experts (arXiv:2202.08906)",
         "model.router.z_loss=0.001"});
}

void warn_of_expert_batch(const Plan& plan, Warnings& out) {
  const TrainConfig& train = plan.config.train;
  const double rows = plan.rows_per_expert();
  const std::int64_t tile_rows = plan.hopper_gemm().tile.m;
  if (rows >= static_cast<double>(tile_rows)) return;
  const auto enough = static_cast<std::int64_t>(
      std::ceil(static_cast<double>(train.micro_batch * tile_rows) / rows));
  std::string why = fmt::format(
      "expert GEMMs are computed in tiles of {} rows, of which such experts fill {:.0f} %",
      tile_rows, 100 * rows / static_cast<double>(tile_rows));
  if (rows < 1) why = "most experts get no rows and no gradient from a micro-batch";
  if (rows >= 1 && rows < 32)
    why += fmt::format(
        "; and an expert's load, which the balance loss reads, varies randomly by {:.0f} %",
        100 / std::sqrt(rows));
  out.push_back(
      {fmt::format("{:.{}f} rows per expert and micro-batch", rows, rows < 10 ? 1 : 0), why,
       fmt::format("train.micro_batch={}{}, longer sequences, or fewer and wider experts", enough,
                   enough > train.global_batch ? " (with a larger train.global_batch)" : "")});
}

// Vector loads and the GPU's bulk copies need 16-byte alignment.
void warn_of_alignment(const Plan& plan, Warnings& out) {
  const ModelConfig& m = plan.config.model;
  if (plan.config.train.precision != DType::bf16) return;
  const std::pair<const char*, std::int64_t> widths[] = {{"model.d_model", m.d_model},
                                                         {"model.d_expert", m.d_expert},
                                                         {"model.head_dim", m.head_dim},
                                                         {"model.vocab_size", m.vocab_size}};
  for (const auto& [key, width] : widths)
    if (width % 8 != 0)
      out.push_back(
          {fmt::format("{} is {}, not a multiple of 8", key, width),
           "bf16 rows are then not 16-byte aligned, which tensor core loads require: such "
           "GEMMs fall back to a slow kernel",
           fmt::format("{}={}", key, multiple_above(width, 8))});
}

void warn_of_widths(const Plan& plan, Warnings& out) {
  const ModelConfig& m = plan.config.model;
  // A tile of gated units has two columns per unit.
  const std::int64_t tile_cols = plan.hopper_gemm().tile.n;
  const std::int64_t tile = kernels::is_gated(m.activation) ? tile_cols / 2 : tile_cols;
  const std::int64_t padded = multiple_above(m.d_expert, tile);
  const double waste = 1 - static_cast<double>(m.d_expert) / static_cast<double>(padded);
  if (waste > 0.1)
    out.push_back({fmt::format("model.d_expert is {}", m.d_expert),
                   fmt::format("in tiles of {} columns {:.0f} % of an expert's FLOP are padding",
                               tile, 100 * waste),
                   fmt::format("model.d_expert={}", m.d_expert < tile
                                                        ? concat(tile, " with fewer experts")
                                                        : concat(padded - tile, " or ", padded))});
  if (m.head_dim != 32 && m.head_dim != 64 && m.head_dim != 96 && m.head_dim != 128 &&
      m.head_dim != 256)
    out.push_back({fmt::format("model.head_dim is {}", m.head_dim),
                   "attention kernels are optimized for 64 and 128; other widths are slower",
                   "model.head_dim=64 or 128, with model.num_heads to suit"});
}

void warn_of_training(const Plan& plan, Warnings& out) {
  const Config& c = plan.config;
  constexpr double kTokensPerParameter = 20, kMostEpochs = 4;
  const double ratio = static_cast<double>(plan.tokens()) / static_cast<double>(plan.size.active);
  if (ratio < kTokensPerParameter)
    out.push_back(
        {fmt::format("{:.{}f} training tokens per active parameter", ratio, ratio < 10 ? 1 : 0),
         "below about 20 (arXiv:2203.15556) a smaller model reaches the same loss at lower cost",
         fmt::format("train.steps={}, or a smaller model",
                     static_cast<std::int64_t>(
                         std::ceil(kTokensPerParameter * static_cast<double>(plan.size.active) /
                                   static_cast<double>(plan.tokens_per_step()))))});
  if (plan.epochs() > kMostEpochs)
    out.push_back({fmt::format("the run reads its text {:.1f} times", plan.epochs()),
                   "beyond about four epochs, repeated text helps little (arXiv:2305.16264), and "
                   "experts memorize it",
                   "more text, or fewer train.steps"});
  if (c.schedule.warmup_steps == 0 && c.train.steps >= 100)
    out.push_back(
        {"no warm-up",
         "at the full learning rate, noise of the first steps decides which experts survive",
         fmt::format("schedule.warmup_steps={}", std::max<std::int64_t>(c.train.steps / 50, 10))});
  if (c.optim.clip_norm == 0)
    out.push_back({"gradients are not clipped",
                   "one bad batch can change the router so much that experts stay unused",
                   "optim.clip_norm=1"});
}

}  // namespace

std::vector<PlanWarning> warnings_of(const Plan& plan, std::int64_t device_bytes) {
  Warnings warnings;
  warn_of_memory(plan, device_bytes, warnings);
  warn_of_routing(plan, warnings);
  warn_of_expert_batch(plan, warnings);
  warn_of_alignment(plan, warnings);
  warn_of_widths(plan, warnings);
  warn_of_training(plan, warnings);
  return warnings;
}

}  // namespace smoe
