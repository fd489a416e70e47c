#include "train/profile/profile_text.h"

#include <fmt/format.h>

#include <cmath>

#include "core/system/format.h"

namespace smoe {
namespace {

constexpr std::size_t kNumOps = 12, kNumOwners = 6, kNumAdvice = 3, kNumOperations = 12,
                      kNumChanges = 10;

double percent_of(double part, double whole) {
  return whole > 0 ? 100 * part / whole : 0;
}

// Of a profile in a run there are no steps after it yet.
std::string labelled_step(const Profile& p) {
  return fmt::format("step              {} in the window, {} before it{}\n", short_ms(p.step_ms),
                     short_ms(p.before_ms),
                     p.after_ms > 0 ? fmt::format(", {} after it", short_ms(p.after_ms)) : "");
}

std::string step_table(const Profile& p) {
  std::string text = labelled_step(p);
  for (const auto& [name, ms] : parts_of_step(p))
    text +=
        labelled(name, fmt::format("{:>10}{:>7.1f} %", short_ms(ms), percent_of(ms, p.step_ms)));
  return text;
}

std::string op_table(const Profile& p) {
  std::string text = fmt::format("{:<46}{:>8}{:>11}{:>8}{:>14}{:>9}{:>10}\n", "kernels, per step",
                                 "calls", "time", "share", "speed", "GB/s", "roofline");
  for (std::size_t i = 0; i < std::min(kNumOps, p.ops.size()); ++i) {
    const Group& g = p.ops[i].group;
    std::string name = name_of(p.ops[i]);
    if (name.size() > 43) name = name.substr(0, 40) + "...";
    text += fmt::format("  {:<44}{:>8.0f}{:>11}{:>6.1f} %{:>14}{:>9.1f}{:>8.0f} %\n", name,
                        g.launches, short_ms(g.ms), percent_of(g.ms, p.step_ms),
                        g.cost.flops > 0 ? short_flops(g.cost.flops / g.ms * 1e3) + "/s" : "",
                        g.cost.bytes / g.ms / 1e6, 100 * g.roof_share());
  }
  return text;
}

std::string memory_table(const Profile& p) {
  std::string text =
      fmt::format("memory            peak {}, planned {}\n", format_bytes(p.memory.peak_bytes),
                  format_bytes(p.plan.total_peak_bytes));
  for (std::size_t i = 0; i < std::min(kNumOwners, p.memory.owners.size()); ++i) {
    const OwnedBlocks& o = p.memory.owners[i];
    text += labelled(format_bytes(o.bytes), fmt::format("{}: {}", name_of(o.category), o.owner));
  }
  for (const MemoryOption& option : p.memory_options)
    text += labelled(format_bytes(option.peak_bytes),
                     fmt::format("with {}{}", option.setting,
                                 option.extra_ms > 0 ? fmt::format(", about {} a step longer",
                                                                   short_ms(option.extra_ms))
                                                     : ""));
  return text;
}

std::string other_lines(const Profile& p) {
  std::string text;
  if (p.routing)
    text += fmt::format(
        "routing           unequal loads cost {} of {} in expert GEMMs{}\n",
        short_ms(p.routing->experts_ms - p.routing->balanced_ms), short_ms(p.routing->experts_ms),
        p.routing->tile_rows > 0
            ? fmt::format("; tiles of {:.0f} rows are {:.1f} % full, the rest costs at most {}",
                          p.routing->tile_rows, 100 * p.routing->tile_fill,
                          short_ms(p.routing->padding_ms()))
            : "");
  if (p.power.unavailable.empty())
    text += fmt::format("power             {:.0f} W of {:.0f} W, {:.0f} MHz of {:.0f} MHz{}\n",
                        p.power.mean_watts, p.power.limit_watts, p.power.mean_mhz, p.power.max_mhz,
                        p.power.slowed_by.empty() ? "" : ", held down by " + p.power.slowed_by);
  return text;
}

std::string communication_lines(const Profile& p) {
  std::string text = p.transport.empty() ? "" : "ranks             " + p.transport + "\n";
  for (const RankTimes& rank : p.ranks)
    text += fmt::format(
        "rank {:<13}step {}, kernels {}, communication {} of which {:.0f} % hidden, waiting for "
        "other ranks {}, peak {}\n",
        rank.rank, short_ms(rank.step_ms), short_ms(rank.busy_ms), short_ms(rank.communication_ms),
        100 * rank.hidden_share(), short_ms(rank.exposed_ms), format_bytes(rank.peak_bytes));
  for (std::size_t i = 0; i < std::min(kNumOperations, p.communication.size()); ++i) {
    const CommunicationGroup& g = p.communication[i];
    text += labelled(g.operation,
                     fmt::format("{:>10} in {}: begins at {}, takes {}, {} without a kernel",
                                 format_bytes(g.bytes), name_of(g.phase), short_ms(g.begin_ms),
                                 short_ms(g.ms), short_ms(g.exposed_ms)));
  }
  return text;
}

std::string change_lines(const std::vector<Change>& changes) {
  if (changes.empty()) return "";
  std::string text = "changes\n";
  for (std::size_t i = 0; i < std::min(kNumChanges, changes.size()); ++i) {
    const Change& c = changes[i];
    const auto value = [&](double v) {
      return c.unit == "ms" ? short_ms(v) : format_bytes(static_cast<std::int64_t>(v));
    };
    text += fmt::format("  {:<46}{:>12} -> {}\n", c.what, value(c.before), value(c.after));
  }
  return text;
}

}  // namespace

std::string short_ms(double ms) {
  const double size = std::abs(ms);
  if (size < 0.1) return fmt::format("{:.1f} us", 1e3 * ms);
  return fmt::format("{:.{}f} ms", ms, size < 1 ? 3 : size < 10 ? 2 : 1);
}

std::string name_of(const OpGroup& op) {
  return fmt::format("{}{}{}{} ({})", op.kernel, op.op.empty() || op.op == op.kernel ? "" : " in ",
                     op.op == op.kernel ? "" : op.op, op.part.empty() ? "" : " " + op.part,
                     name_of(op.phase));
}

std::string timing_sentence(const Profile& p) {
  if (p.launch_ms > 0)
    return fmt::format(
        "by events a launch of nothing takes {}, which is not in the kernels' times; "
        "kernels that overlap in other steps do not overlap here",
        short_ms(p.launch_ms));
  if (p.overlap_ms > 0)
    return fmt::format("kernels overlap for {} per step, which counts for the one that began first",
                       short_ms(p.overlap_ms));
  return "";
}

std::vector<std::pair<std::string, double>> parts_of_step(const Profile& p) {
  std::vector<std::pair<std::string, double>> parts{
      {"GEMMs", p.gemms.ms}, {"attention", p.attention.ms}, {"memory-bound", p.memory_bound.ms}};
  if (p.num_ranks > 1) parts.emplace_back("other ranks", p.exposed_ms);
  parts.emplace_back("no kernel", p.gap_ms - p.exposed_ms);
  return parts;
}

std::string profile_text(const Profile& p, const std::vector<Change>& changes) {
  std::string text = fmt::format("{}: {} on {}, kernels timed by {}\n", p.run,
                                 counted(p.num_steps, "step"), p.device, p.mode);
  if (!p.mode_note.empty()) text += fmt::format("  not by CUPTI: {}\n", p.mode_note);
  if (const std::string how = timing_sentence(p); !how.empty()) text += "  " + how + "\n";
  text += fmt::format("  roofline: {}/s ({}), {:.0f} GB/s (copy of {})\n\n",
                      short_flops(p.roofline.flops_per_s), p.roofline.gemm,
                      p.roofline.bytes_per_s / 1e9, p.roofline.copy);
  text += step_table(p) + "\n" + op_table(p) + "\n" + memory_table(p) + "\n" + other_lines(p) +
          communication_lines(p);
  if (!p.advice.empty()) text += "what could be had\n";
  for (std::size_t i = 0; i < std::min(kNumAdvice, p.advice.size()); ++i)
    text += labelled(short_ms(p.advice[i].ms), p.advice[i].text);
  return text + change_lines(changes);
}

}  // namespace smoe
