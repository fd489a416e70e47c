#include "train/profile/profile_page.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "core/system/format.h"
#include "train/profile/memory_page.h"
#include "train/profile/profile_text.h"
#include "train/profile/roofline_chart.h"
#include "train/report/chart.h"
#include "train/report/page_frame.h"

namespace smoe {
namespace {

constexpr std::size_t kMaxRows = 60;

double share_of_step(double ms, const Profile& p) {
  return p.step_ms > 0 ? 100 * ms / p.step_ms : 0;
}

// A card with a table; the first row holds the headings. Cells are HTML.
std::string table(const std::string& title, const std::string& note,
                  const std::vector<std::vector<std::string>>& rows, bool is_wide = true) {
  if (rows.size() < 2) return "";
  std::string html = card_head(title, note, is_wide) + "<div class=\"table named\"><table>";
  for (std::size_t i = 0; i < rows.size(); ++i) {
    html += "<tr>";
    for (const std::string& cell : rows[i])
      html += fmt::format("<{0}>{1}</{0}>", i == 0 ? "th" : "td", cell);
    html += "</tr>";
  }
  return html + "</table></div></figure>";
}

std::string profile_tile(const std::string& name, const std::string& value) {
  return fmt::format("<div class=\"tile\"><small>{}</small><b>{}</b></div>", escaped(name),
                     escaped(value));
}

std::string profile_header(const Profile& p) {
  std::string html = page_head("Profile of " + p.run);
  html += fmt::format(
      "<p>{} after {} of warm-up · {} · {} · kernels timed by {} · smoe {} · "
      "{}</p>",
      counted(p.num_steps, "step"), counted(p.num_warmup, "step"), escaped(p.device),
      counted(p.num_ranks, "rank"), p.mode, escaped(p.version), escaped(p.time));
  if (!p.mode_note.empty()) html += fmt::format("<p>not by CUPTI: {}</p>", escaped(p.mode_note));
  if (const std::string how = timing_sentence(p); !how.empty())
    html += "<p>" + escaped(how) + "</p>";
  html += fmt::format("<p>roofline measured at the start: {}/s ({}), {:.0f} GB/s (copy of {})</p>",
                      short_flops(p.roofline.flops_per_s), escaped(p.roofline.gemm),
                      p.roofline.bytes_per_s / 1e9, escaped(p.roofline.copy));
  html += "</header><div class=\"tiles\">";
  html += profile_tile("step", short_ms(p.step_ms));
  if (p.tokens_per_step > 0)
    html += profile_tile("tokens per second",
                         short_count(1e3 * static_cast<double>(p.tokens_per_step) / p.step_ms));
  html += profile_tile("kernels", fmt::format("{:.1f} %", share_of_step(p.busy_ms, p)));
  html += profile_tile("FLOP/s", short_flops(p.measured.flops / p.step_ms * 1e3));
  html += profile_tile("peak memory", format_bytes(p.memory.peak_bytes));
  html += profile_tile(
      "step before / after",
      fmt::format("{} / {}", short_ms(p.before_ms), p.after_ms > 0 ? short_ms(p.after_ms) : "-"));
  return html + "</div>\n";
}

// One bar that the parts of the step fill, and a legend.
std::string step_bar(const Profile& p) {
  std::string bar, legend;
  int color = 0;
  for (const auto& [name, ms] : parts_of_step(p)) {
    const std::string fill = name == "no kernel" ? "--dim" : fmt::format("--series-{}", ++color);
    bar += fmt::format("<i style=\"width:{:.2f}%;background:var({})\"></i>",
                       std::max(0.0, share_of_step(ms, p)), fill);
    legend += fmt::format("<span><i style=\"background:var({})\"></i>{} {} ({:.1f} %)</span>", fill,
                          escaped(name), short_ms(ms), share_of_step(ms, p));
  }
  return card_head("Step", "where its time goes; `no kernel` is the device without work", true) +
         "<div class=\"legend\">" + legend + "</div><div class=\"bar\">" + bar + "</div></figure>";
}

std::string advice_table(const Profile& p) {
  std::vector<std::vector<std::string>> rows{{"what", "could save", "of the step"}};
  for (std::size_t i = 0; i < std::min<std::size_t>(8, p.advice.size()); ++i)
    rows.push_back({escaped(p.advice[i].text), short_ms(p.advice[i].ms),
                    fmt::format("{:.1f} %", share_of_step(p.advice[i].ms, p))});
  return table("What could be had", "per step, against the roofline; upper bounds", rows);
}

std::vector<std::string> group_cells(const Group& g, const Profile& p) {
  return {fmt::format("{:.0f}", g.launches),
          short_ms(g.ms),
          fmt::format("{:.1f} %", share_of_step(g.ms, p)),
          short_ms(g.host_ms),
          g.cost.flops > 0 ? short_flops(g.cost.flops) : "",
          format_bytes(static_cast<std::int64_t>(g.cost.bytes)),
          g.cost.flops > 0 ? short_flops(g.cost.flops / g.ms * 1e3) + "/s" : "",
          fmt::format("{:.0f}", g.cost.bytes / g.ms / 1e6),
          fmt::format("{:.0f} %", 100 * g.roof_share())};
}

std::string op_tables(const Profile& p) {
  const std::vector<std::string> columns{"calls", "time",  "share of step", "host",       "FLOP",
                                         "bytes", "speed", "GB/s",          "of roofline"};
  const auto heading = [&](const std::string& first) {
    std::vector<std::string> row{first};
    row.insert(row.end(), columns.begin(), columns.end());
    return row;
  };
  const auto row_of = [&](const std::string& name, const Group& group) {
    std::vector<std::string> row{escaped(name)};
    for (std::string& cell : group_cells(group, p)) row.push_back(std::move(cell));
    return row;
  };
  std::vector<std::vector<std::string>> kinds{heading("kind")}, ops{heading("kernel")};
  for (const Group* group : {&p.gemms, &p.attention, &p.memory_bound})
    kinds.push_back(row_of(group->name, *group));
  for (std::size_t i = 0; i < std::min(kMaxRows, p.ops.size()); ++i)
    ops.push_back(row_of(name_of(p.ops[i]), p.ops[i].group));
  const std::string note = p.ops.size() > kMaxRows
                               ? fmt::format("the longest {} of {}", kMaxRows, p.ops.size())
                               : "longest first";
  return table("Kinds of kernels", "per step", kinds) +
         table("Kernels", note + "; FLOP of GEMMs and attention", ops);
}

std::string phase_table(const Profile& p) {
  std::vector<std::vector<std::string>> rows{{"phase", "kernels", "share of step"}};
  for (std::size_t i = 0; i < p.phase_ms.size(); ++i)
    if (p.phase_ms[i] > 0)
      rows.push_back({name_of(static_cast<Phase>(i)), short_ms(p.phase_ms[i]),
                      fmt::format("{:.1f} %", share_of_step(p.phase_ms[i], p))});
  if (p.data_ms > 0)
    rows.push_back({"reading batches, on the host", short_ms(p.data_ms),
                    fmt::format("{:.1f} %", share_of_step(p.data_ms, p))});
  return table("Phases", "time of their kernels per step", rows);
}

std::string layer_table(const Profile& p) {
  std::vector<std::vector<std::string>> rows{
      {"layer", "forward", "backward", "recompute", "expert GEMMs", "largest over mean load"}};
  for (const LayerGroup& l : p.layers) {
    const auto layer = static_cast<std::size_t>(l.layer);
    const bool has_load = p.routing && layer < p.routing->imbalance.size();
    rows.push_back({std::to_string(l.layer), short_ms(l.forward_ms), short_ms(l.backward_ms),
                    short_ms(l.recompute_ms), short_ms(l.experts_ms),
                    has_load ? fmt::format("{:.2f}", p.routing->imbalance[layer]) : ""});
  }
  return table("Layers", "kernels per step", rows);
}

std::string micro_batch_table(const Profile& p) {
  if (p.micro_batches.size() < 2) return "";
  std::vector<std::vector<std::string>> rows{{"micro-batch", "forward", "backward"}};
  for (std::size_t i = 0; i < std::min(kMaxRows, p.micro_batches.size()); ++i) {
    const MicroBatchTimes& m = p.micro_batches[i];
    rows.push_back({std::to_string(m.index + 1), short_ms(m.forward_ms), short_ms(m.backward_ms)});
  }
  return table("Micro-batches", "kernels per step; backward with recompute", rows, false);
}

std::string cuda_kernel_table(const Profile& p) {
  std::vector<std::vector<std::string>> rows{{"CUDA kernel", "calls", "time", "share of step"}};
  for (std::size_t i = 0; i < std::min(kMaxRows, p.kernels.size()); ++i) {
    const Group& k = p.kernels[i];
    rows.push_back({escaped(k.name), fmt::format("{:.1f}", k.launches), short_ms(k.ms),
                    fmt::format("{:.1f} %", share_of_step(k.ms, p))});
  }
  return table("CUDA kernels", "by CUPTI, longest first", rows);
}

std::string gap_tables(const Profile& p) {
  std::vector<std::vector<std::string>> gaps{{"between", "gap", "step", "why"}};
  for (const Gap& g : p.gaps)
    gaps.push_back({escaped(g.before + " and " + g.after), short_ms(g.ms),
                    std::to_string(g.step + 1),
                    g.is_for_ranks() ? "other ranks"
                    : g.is_host_late ? "the host was late"
                                     : "the device"});
  std::vector<std::vector<std::string>> waits{{"place", "waits per step", "time"}};
  for (const WaitGroup& w : p.waits)
    waits.push_back({escaped(w.place), fmt::format("{:.1f}", w.waits), short_ms(w.ms)});
  const std::string lead = p.mode == "clock"
                               ? ""
                               : fmt::format("; the host launches {} ahead (median), at most {}",
                                             short_ms(p.ahead_ms), short_ms(p.max_ahead_ms));
  return table("Longest gaps", "the device ran no kernel between these" + lead, gaps) +
         table("Waits of the host for the device", "", waits, false);
}

std::string plan_table(const Profile& p) {
  if (p.plan.total_peak_bytes == 0) return "";
  std::vector<std::vector<std::string>> rows{{"category", "planned", "at the peak", "difference"}};
  const auto add = [&](const std::string& name, std::int64_t planned, std::int64_t measured) {
    rows.push_back(
        {name, format_bytes(planned), format_bytes(measured),
         fmt::format(
             "{}{}{}", measured < planned ? "-" : "+", format_bytes(std::abs(measured - planned)),
             planned > 0
                 ? fmt::format(" ({:+.1f} %)", 100.0 * static_cast<double>(measured - planned) /
                                                   static_cast<double>(planned))
                 : "")});
  };
  for (int c = 0; c < kNumCategories; ++c)
    add(name_of(static_cast<Category>(c)), p.plan.peak_bytes[c], p.memory.at_peak[c]);
  add("all, at one time", p.plan.total_peak_bytes, p.memory.peak_bytes);
  if (p.device_total_bytes > 0)
    for (const auto& [name, bytes] :
         {std::pair{"the pool of tensors at its peak, with unused parts", p.pool_peak_bytes},
          {"beside tensors: CUDA, libraries, NCCL, other processes", p.beside_tensors_bytes}})
      rows.push_back({name, "", format_bytes(bytes), "of " + format_bytes(p.device_total_bytes)});
  std::vector<std::vector<std::string>> options{{"setting", "peak", "step"}};
  for (const MemoryOption& o : p.memory_options)
    options.push_back({escaped(o.setting), format_bytes(o.peak_bytes),
                       o.extra_ms > 0 ? "about +" + short_ms(o.extra_ms) : ""});
  return table("Planned against measured", "planned: the peak of each category by itself", rows,
               false) +
         table("What would lower the peak", "planned", options, false);
}

std::string routing_table(const Profile& p) {
  if (!p.routing) return "";
  const RoutingCost& r = *p.routing;
  std::vector<std::vector<std::string>> rows{{"", ""}};
  rows.push_back({"expert GEMMs", short_ms(r.experts_ms)});
  rows.push_back({"at equal loads", short_ms(r.balanced_ms)});
  rows.push_back({"cost of unequal loads", short_ms(r.experts_ms - r.balanced_ms)});
  if (r.tile_rows > 0)
    rows.push_back({fmt::format("rows in tiles of {:.0f}", r.tile_rows),
                    fmt::format("{:.1f} % full; the rest costs at most {}", 100 * r.tile_fill,
                                short_ms(r.padding_ms()))});
  return table("Routing", "per step", rows, false);
}

std::string power_table(const Profile& p) {
  const PowerReport& w = p.power;
  if (!w.unavailable.empty()) return card_head("Power", w.unavailable) + "</figure>";
  std::vector<std::vector<std::string>> rows{{"", ""}};
  rows.push_back({"power", fmt::format("{:.0f} W, at most {:.0f} W; limit {:.0f} W", w.mean_watts,
                                       w.max_watts, w.limit_watts)});
  rows.push_back({"SM clock", fmt::format("{:.0f} MHz, at least {:.0f} MHz; it can be {:.0f} MHz",
                                          w.mean_mhz, w.min_mhz, w.max_mhz)});
  if (p.tokens_per_step > 0)
    rows.push_back(
        {"energy", fmt::format("{:.1f} mJ per token",
                               1e3 * w.joules * p.num_ranks /
                                   static_cast<double>(p.tokens_per_step * p.num_steps))});
  rows.push_back({"temperature", fmt::format("{:.0f} °C", w.celsius)});
  rows.push_back({"held down by", w.slowed_by.empty() ? "nothing" : escaped(w.slowed_by)});
  return table("Power", "of the GPU in the window", rows, false);
}

std::string rank_table(const Profile& p) {
  std::vector<std::vector<std::string>> rows{{"rank", "step", "kernels", "communication", "hidden",
                                              "waiting for other ranks", "reading batches",
                                              "peak memory"}};
  for (const RankTimes& r : p.ranks)
    rows.push_back({std::to_string(r.rank), short_ms(r.step_ms), short_ms(r.busy_ms),
                    short_ms(r.communication_ms), fmt::format("{:.1f} %", 100 * r.hidden_share()),
                    short_ms(r.exposed_ms), short_ms(r.data_ms), format_bytes(r.peak_bytes)});
  return table("Ranks", "per step; hidden: beside kernels", rows);
}

std::string communication_table(const Profile& p) {
  std::vector<std::vector<std::string>> rows{{"operation", "phase", "bytes", "ready at",
                                              "begins at", "time", "without a kernel", "GB/s",
                                              "last rank", "later by"}};
  for (std::size_t i = 0; i < std::min(kMaxRows, p.communication.size()); ++i) {
    const CommunicationGroup& g = p.communication[i];
    rows.push_back({escaped(g.operation), name_of(g.phase), format_bytes(g.bytes),
                    short_ms(g.ready_ms), short_ms(g.begin_ms), short_ms(g.ms),
                    short_ms(g.exposed_ms), fmt::format("{:.2f}", g.bytes_per_s / 1e9),
                    g.last_rank >= 0 ? std::to_string(g.last_rank) : "",
                    g.last_rank >= 0 ? short_ms(g.late_ms) : ""});
  }
  return table("Operations among the ranks",
               "of rank 0, per step, in order; GB/s: what a rank sends", rows);
}

// Kernels that take longer while operations among the ranks run.
std::string slowdown_table(const Profile& p) {
  std::vector<std::vector<std::string>> rows{
      {"kernel", "calls", "of them beside", "times as long", "costs"}};
  for (const OpGroup& op : p.ops)
    if (op.slowdown() != 1 && rows.size() < kMaxRows)
      rows.push_back({escaped(name_of(op)), fmt::format("{:.0f}", op.group.launches),
                      fmt::format("{:.0f}", op.beside.launches),
                      fmt::format("{:.2f}", op.slowdown()), short_ms(op.slowdown_ms())});
  return table("Kernels beside communication",
               "against the same kernels alone, relative to the roofline", rows);
}

// What the cost model of `smoe plan --ranks` says of GPUs beside what was measured.
std::string planned_communication_table(const Profile& p) {
  if (p.mode == "clock") return "";
  double reduce_ms = 0, gather_ms = 0;
  for (const CommunicationGroup& g : p.communication)
    (g.operation.find("reduce") != std::string::npos ? reduce_ms : gather_ms) += g.ms;
  const CommunicationCost& planned = p.planned_communication;
  return table("Communication against the plan", "a rank's, per step; by " + escaped(p.transport),
               {{"", "sent", "planned", "measured"},
                {"gradients", format_bytes(planned.reduce_bytes), short_ms(planned.reduce_ms),
                 short_ms(reduce_ms)},
                {"weights", format_bytes(planned.gather_bytes), short_ms(planned.gather_ms),
                 short_ms(gather_ms)}},
               false);
}

std::string change_table(const std::vector<Change>& changes, const std::string& old_path) {
  std::vector<std::vector<std::string>> rows{{"what", "before", "now", "difference"}};
  for (const Change& c : changes) {
    const auto value = [&](double v) {
      return c.unit == "ms" ? short_ms(v)
             : v < 0        ? "-" + format_bytes(static_cast<std::int64_t>(-v))
                            : format_bytes(static_cast<std::int64_t>(v));
    };
    rows.push_back({escaped(c.what), value(c.before), value(c.after), value(c.after - c.before)});
  }
  return table("Changes", "since " + old_path + ", by more than 3 %", rows);
}

}  // namespace

std::string profile_page(const Profile& p, const std::vector<Change>& changes,
                         const std::string& old_path) {
  std::string html = profile_header(p);
  html += "<h2>Verdict</h2><div class=\"charts\">" + step_bar(p) + advice_table(p) +
          change_table(changes, old_path) + "</div>\n";
  html += "<h2>Kernels</h2><div class=\"charts\">" + op_tables(p) + roofline_chart(p) +
          phase_table(p) + layer_table(p) + micro_batch_table(p) + cuda_kernel_table(p) +
          "</div>\n";
  html += "<h2>Gaps and waits</h2><div class=\"charts\">" + gap_tables(p) + "</div>\n";
  if (p.num_ranks > 1)
    html += "<h2>Communication</h2><div class=\"charts\">" + rank_table(p) +
            communication_table(p) + planned_communication_table(p) + slowdown_table(p) +
            "</div>\n";
  html +=
      "<h2>Memory</h2><div class=\"charts\">" + memory_cards(p.memory) + plan_table(p) + "</div>\n";
  html += "<h2>Routing and power</h2><div class=\"charts\">" + routing_table(p) + power_table(p) +
          "</div>\n";
  return html + page_end();
}

}  // namespace smoe
