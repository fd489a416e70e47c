#include "train/plan/plan_text.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>

#include "core/system/format.h"
#include "core/system/wrap.h"
#include "layers/mixture_of_attention.h"
#include "train/data/training_data.h"

namespace smoe {
namespace {

constexpr std::size_t kLine = 96;
// The peak of H100 and H200 in bf16, and the share of it that docs/performance.md has measured.
constexpr double kHopperFlops = 989e12, kHopperMfu = 0.47;
// The share of a CPU's speed in a large GEMM that its training steps reach.
constexpr double kCpuShare = 0.7;

std::string percent(double part, double whole) {
  const double share = whole == 0 ? 0 : 100 * part / whole;
  return fmt::format("{:.{}f} %", share, share < 9.95 ? 1 : 0);
}

const char* name_of_precision(DType dtype) {
  return dtype == DType::bf16 ? "bf16" : dtype == DType::f64 ? "fp64" : "fp32";
}

const char* name_of(Recompute recompute) {
  constexpr const char* kNames[] = {"none", "experts", "block"};
  return kNames[static_cast<int>(recompute)];
}

/// "block", or "block in 3 of 16 layers".
std::string recompute_text(const Config& config) {
  const TrainConfig& train = config.train;
  return train.recompute_layers == 0
             ? name_of(train.recompute)
             : fmt::format("{} in {} of {}", name_of(train.recompute), train.recompute_layers,
                           counted(config.model.num_layers, "layer"));
}

std::string attention_text(const ModelConfig& m) {
  if (m.attention.kind != "moa") return "";
  const MixtureOfAttention::Settings mixture(m.attention.settings);
  return fmt::format("; attention by {}, top {}", counted(mixture.num_experts, "expert"),
                     mixture.top_k);
}

std::string headline(const Plan& plan) {
  const ModelConfig& m = plan.config.model;
  return fmt::format(
      "{}: {} parameters, {} of them active; {} of width {}, {} of width {}, top {}{}\n",
      plan.config.run.name, short_count(static_cast<double>(plan.size.total)),
      short_count(static_cast<double>(plan.size.active)), counted(m.num_layers, "layer"), m.d_model,
      counted(m.num_experts, "expert"), m.d_expert, m.top_k, attention_text(m));
}

std::string parameter_table(const Plan& plan) {
  const auto line = [&](const char* name, const ModelSize& size) {
    return labelled(name, fmt::format("{:>16}{:>9}{:>18}", grouped(size.total),
                                      percent(static_cast<double>(size.total),
                                              static_cast<double>(plan.size.total)),
                                      grouped(size.active)));
  };
  std::string text =
      fmt::format("parameters        {:>16}{:>9}{:>18}\n", "all", "share", "active per token");
  for (const ParameterGroup& group : plan.groups) text += line(name_of(group.part), group.size);
  text += line("all", plan.size);
  if (plan.size.trained < plan.size.total)
    text += labelled(
        "trained",
        fmt::format(
            "{:>16}{:>9}   the others have no gradients and no moments", grouped(plan.size.trained),
            percent(static_cast<double>(plan.size.trained), static_cast<double>(plan.size.total))));
  return text;
}

std::string compute_table(const Plan& plan) {
  const TokenFlops& flops = plan.flops;
  const auto cell = [](double value) { return fmt::format("{:>14}", short_flops(value)); };
  std::string text =
      "compute per token 2 FLOP per multiply-add; causal attention counted at half\n";
  text += labelled("weights", cell(flops.weights));
  text += labelled("attention", cell(flops.attention));
  text += labelled("forward", cell(flops.forward()));
  text += labelled("training",
                   cell(flops.training()) + "   forward and backward: 3 x forward" +
                       (flops.frozen > 0 ? ", less weight gradients that are not computed" : ""));
  if (flops.recomputed > 0)
    text += labelled("recomputed",
                     cell(flops.recomputed) + fmt::format("   in addition, for train.recompute={}",
                                                          recompute_text(plan.config)));
  const kernels::cuda::ExpertGemmConfig gemm = plan.hopper_gemm();
  text += labelled("expert GEMMs",
                   fmt::format("{:>14}   on Hopper, in tiles of {} x {}{}{}",
                               kernels::cuda::engine_name(gemm.form), gemm.tile.m, gemm.tile.n,
                               *gemm.reason == '\0' ? "" : ", because ", gemm.reason));
  const double step = flops.training() * static_cast<double>(plan.tokens_per_step());
  text += labelled("step", cell(step));
  text += labelled("executed",
                   cell(plan.step.flops) +
                       fmt::format("   by the kernels of a step, which move {} at least",
                                   format_bytes(static_cast<std::int64_t>(plan.step.bytes))));
  const double run = step * static_cast<double>(plan.config.train.steps);
  text += labelled("run", cell(run));
  if (plan.config.train.precision == DType::bf16)
    text += labelled(
        "time", fmt::format("{:>14}   on {} H100 or H200, at {:.0f} % of {}/s each",
                            format_duration(run / plan.num_ranks / (kHopperMfu * kHopperFlops)),
                            plan.num_ranks, 100 * kHopperMfu, short_flops(kHopperFlops)));
  else if (plan.cpu_flops_per_s > 0)
    text += labelled(
        "time",
        fmt::format("{:>14}   on this CPU, at {:.0f} % of the {}/s that a GEMM has now",
                    format_duration(plan.step.flops * static_cast<double>(plan.config.train.steps) /
                                    (kCpuShare * plan.cpu_flops_per_s)),
                    100 * kCpuShare, short_flops(plan.cpu_flops_per_s)));
  return text;
}

std::string token_table(const Plan& plan) {
  const TrainConfig& t = plan.config.train;
  const std::int64_t micro_batches = t.global_batch / t.micro_batch;
  std::string text = "tokens\n";
  text += labelled("micro-batch",
                   fmt::format("{:>14}   {} of {} tokens", grouped(plan.tokens_per_micro_batch()),
                               counted(t.micro_batch, "sequence"), grouped(t.seq_len)));
  text +=
      labelled("step", fmt::format("{:>14}   {}", grouped(plan.tokens_per_step()),
                                   micro_batches == 1 ? "1 micro-batch"
                                                      : grouped(micro_batches) + " micro-batches"));
  text +=
      labelled("run", fmt::format("{:>14}   {}", grouped(plan.tokens()), counted(t.steps, "step")));
  const DataConfig& data = plan.config.data;
  const std::string path =
      !plan.data             ? missing_set(data)
      : data.sources.empty() ? data.path
                             : counted(static_cast<std::int64_t>(data.sources.size()), "token set");
  text += plan.data
              ? labelled("training set",
                         fmt::format("{:>14}   in {}, read {:.2f} times",
                                     grouped(plan.data->training_tokens), path, plan.epochs()))
              : labelled("training set", fmt::format("{:>14}   {} does not exist yet", "?", path));
  const double rows = plan.rows_per_expert();
  text += labelled(
      "expert", fmt::format("{:>14}   rows per micro-batch at perfect balance",
                            rows < 10 ? fmt::format("{:.1f}", rows) : grouped(std::llround(rows))));
  return text;
}

std::string memory_table(const Plan& plan) {
  const TrainConfig& t = plan.config.train;
  const MemoryPlan& memory = plan.memory;
  std::string text = fmt::format(
      "memory            compute in {}, train.recompute={}{}{}\n", name_of_precision(t.precision),
      recompute_text(plan.config), t.grad_dtype == DType::bf16 ? ", gradients in bf16" : "",
      plan.config.optim.moments == DType::bf16 ? ", moments in bf16" : "");
  for (int i = 0; i < kNumCategories; ++i)
    text += labelled(name_of(static_cast<Category>(i)),
                     fmt::format("{:>14}", format_bytes(memory.peak_bytes[i])));
  text += labelled("persistent",
                   fmt::format("{:>14}   between steps", format_bytes(memory.resting_bytes)));
  text += labelled("peak", fmt::format("{:>14}   at one time; categories peak at different times",
                                       format_bytes(memory.total_peak_bytes)));
  return text;
}

// Peak memory, bytes sent and time, without and with ZeRO.
std::string rank_table(const Plan& plan) {
  const TrainConfig& t = plan.config.train;
  const auto row = [&](const char* name, auto&& cell, const char* note) {
    std::string cells;
    for (const RankPlan& rank : plan.ranks) cells += fmt::format("{:>14}", cell(rank));
    return labelled(name, cells + note);
  };
  const auto ms = [](double value) { return fmt::format("{:.1f} ms", value); };
  const std::int64_t micro_batches = t.global_batch / t.micro_batch / plan.num_ranks;
  std::string text =
      fmt::format("{}, each with {} per step\n", counted(plan.num_ranks, "rank"),
                  micro_batches == 1 ? "1 micro-batch" : grouped(micro_batches) + " micro-batches");
  text += row(
      "parallel.zero", [](const RankPlan& r) { return r.zero ? "1" : "0"; }, "");
  text += row(
      "persistent", [](const RankPlan& r) { return format_bytes(r.memory.resting_bytes); },
      "   memory of a rank between steps");
  text += row(
      "peak", [](const RankPlan& r) { return format_bytes(r.memory.total_peak_bytes); },
      "   beside it, 0.3 GiB for peer copies or up to 1 GiB for NCCL");
  text += row(
      "gradients sent",
      [](const RankPlan& r) { return format_bytes(r.communication.reduce_bytes); },
      "   by a rank in each step, beside backward");
  text += row(
      "in", [&](const RankPlan& r) { return ms(r.communication.reduce_ms); },
      "   at 370 GB/s within 8 GPUs of a host, 45 GB/s per GPU beyond");
  text += row(
      "weights sent", [](const RankPlan& r) { return format_bytes(r.communication.gather_bytes); },
      "   beside the next forward");
  text += row(
      "in", [&](const RankPlan& r) { return ms(r.communication.gather_ms); }, "");
  return text;
}

std::string warning_text(const PlanWarning& warning) {
  const auto line = [](const char* label, const std::string& text) {
    return wrapped(label + text, 4, kLine) + "\n";
  };
  return line("  ! ", warning.what) + line("    because ", warning.why) +
         line("    try ", warning.change);
}

}  // namespace

std::string plan_text(const Plan& plan) {
  std::string text = headline(plan);
  for (const std::string& table :
       {parameter_table(plan), compute_table(plan), token_table(plan), memory_table(plan)})
    text.append("\n").append(table);
  if (!plan.ranks.empty()) text.append("\n").append(rank_table(plan));
  if (!plan.warnings.empty())
    text +=
        fmt::format("\n{}\n", counted(static_cast<std::int64_t>(plan.warnings.size()), "warning"));
  for (const PlanWarning& warning : plan.warnings) text += warning_text(warning);
  return text;
}

std::string plan_json(const Plan& plan) {
  using nlohmann::ordered_json;
  const auto size = [](const ModelSize& s) {
    return ordered_json{{"total", s.total}, {"active", s.active}, {"trained", s.trained}};
  };
  ordered_json parameters = size(plan.size), memory, warnings = ordered_json::array();
  for (const ParameterGroup& group : plan.groups) {
    std::string key = name_of(group.part);
    std::replace(key.begin(), key.end(), ' ', '_');
    parameters["groups"][key] = size(group.size);
  }
  for (int i = 0; i < kNumCategories; ++i)
    memory["peak_by_category"][name_of(static_cast<Category>(i))] = plan.memory.peak_bytes[i];
  memory["peak"] = plan.memory.total_peak_bytes;
  memory["at_rest"] = plan.memory.resting_bytes;
  ordered_json ranks = ordered_json::array();
  for (const RankPlan& rank : plan.ranks)
    ranks.push_back({{"zero", rank.zero ? 1 : 0},
                     {"peak_bytes", rank.memory.total_peak_bytes},
                     {"at_rest_bytes", rank.memory.resting_bytes},
                     {"reduce_bytes_per_step", rank.communication.reduce_bytes},
                     {"gather_bytes_per_step", rank.communication.gather_bytes},
                     {"reduce_ms", rank.communication.reduce_ms},
                     {"gather_ms", rank.communication.gather_ms}});
  for (const PlanWarning& w : plan.warnings)
    warnings.push_back({{"what", w.what}, {"why", w.why}, {"change", w.change}});
  const ordered_json json{
      {"run", plan.config.run.name},
      {"parameters", parameters},
      {"flops_per_token",
       {{"forward_weights", plan.flops.weights},
        {"forward_attention", plan.flops.attention},
        {"forward", plan.flops.forward()},
        {"training", plan.flops.training()},
        {"recomputed", plan.flops.recomputed}}},
      {"tokens",
       {{"per_micro_batch", plan.tokens_per_micro_batch()},
        {"per_step", plan.tokens_per_step()},
        {"run", plan.tokens()},
        {"training_set", plan.data ? ordered_json(plan.data->training_tokens) : ordered_json()},
        {"rows_per_expert", plan.rows_per_expert()}}},
      {"kernels_per_step", {{"flops", plan.step.flops}, {"bytes", plan.step.bytes}}},
      {"memory_bytes", memory},
      {"num_ranks", plan.num_ranks},
      {"rank", ranks},
      {"warnings", warnings}};
  return json.dump(2) + "\n";
}

}  // namespace smoe
