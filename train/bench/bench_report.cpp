#include "train/bench/bench_report.h"

#include <fmt/format.h>

#include <iterator>
#include <nlohmann/json.hpp>

#include "core/system/format.h"
#include "train/report/chart.h"
#include "train/report/page_frame.h"

namespace smoe {
namespace {

constexpr double kFairRatio = 1.1;  // of the padded GEMMs to dense ones

// FLOP of forward, or forward and backward.
double flops_of(const SweepRow& row, bool trains) {
  return row.point.forward_flops() * (trains ? 3 : 1);
}

double tflops_of(const SweepRow& row, const Measurement& m, bool trains) {
  return flops_of(row, trains) / m.ms() / 1e9;
}

const Measurement* find(const SweepRow& row, VariantKind kind) {
  for (const Measurement& m : row.measurements)
    if (m.variant == kind) return &m;
  return nullptr;
}

double mib(std::int64_t bytes) {
  return static_cast<double>(bytes) / (1 << 20);
}

// What is computed instead of a layer.
std::string mode_text(const SweepPoint& point) {
  if (point.attention)
    return fmt::format("{} heads on {} sequences", point.attention->num_heads,
                       point.attention->num_sequences);
  return point.mode ? point.mode->text() : "";
}

bool is_layer(const SweepPoint& point) {
  return !point.mode && !point.attention;
}

std::string shape_text(const SweepPoint& point) {
  const ExpertShape& s = point.shape;
  return fmt::format("T {}  D {}  F {}  E {}  K {}  {}{}{}", s.num_tokens, s.d_model, s.d_expert,
                     s.num_experts, s.top_k, name_of(s.dtype), is_layer(point) ? "" : "  ",
                     mode_text(point));
}

// "smoe trains 24.1 % more tokens per second than gather + pad and peaks at 70 % of its memory"
std::string model_sentence(const SweepRow& row) {
  const Measurement* const own = find(row, VariantKind::smoe);
  const Measurement* const padded = find(row, VariantKind::padded);
  if (!own || !padded) return "";
  return fmt::format(
      "  smoe trains {:+.1f} % tokens per second over {} and peaks at {:.1f} % of its memory\n",
      100 * (padded->ms() / own->ms() - 1), name_of(VariantKind::padded),
      100 * mib(own->peak_bytes) / mib(padded->peak_bytes));
}

// The paper's ratio for the same experiment.
std::string paper_sentence(const Sweep& sweep) {
  if (sweep.name == "layer")
    return "the paper, 8 A100: an SMoE MLP takes 66.2 % of MegaBlocks' memory in training\n";
  if (sweep.name == "inference")
    return "the paper, 8 A100: an SMoE MLP takes 53.6 % of MegaBlocks' memory in inference\n";
  if (sweep.name == "model")
    return "the paper, 8 A100: +38.1 % tokens per second over MegaBlocks\n";
  return "";
}

// "smoe keeps 54 % and peaks at 70 % of gather + pad"
std::string memory_sentence(const SweepRow& row) {
  if (row.point.model) return model_sentence(row);
  const VariantKind other = row.point.mode        ? VariantKind::gathered
                            : row.point.attention ? VariantKind::copied
                                                  : VariantKind::padded;
  const Measurement* const own = find(row, VariantKind::smoe);
  const Measurement* const copied = find(row, other);
  const Measurement* const separate = find(row, VariantKind::smoe_no_reuse);
  if (!own || !copied) return "";
  std::string text =
      fmt::format("  memory: smoe keeps {:.1f} % and peaks at {:.1f} % of {}; {:.2f} x its speed\n",
                  100 * mib(own->kept_bytes) / mib(copied->kept_bytes),
                  100 * mib(own->peak_bytes) / mib(copied->peak_bytes), name_of(other),
                  copied->ms() / own->ms());
  if (separate)
    text += fmt::format("  reusing buffers in backward saves {} of its peak\n",
                        format_bytes(separate->backward_peak_bytes - own->backward_peak_bytes));
  if (row.padded_gemm_ratio > 0)
    text += fmt::format("  the GEMMs of {} take {:.2f} x the time of dense GEMMs per expert{}\n",
                        name_of(VariantKind::padded), row.padded_gemm_ratio,
                        row.padded_gemm_ratio > kFairRatio ? ": too slow for a fair baseline" : "");
  return text;
}

// "speed: 0.970 x moe_mlp's GEMMs, forward ...", of each variant that the sweep compares with.
std::string speed_sentences(const SweepRow& row) {
  const Measurement* const own = find(row, VariantKind::smoe);
  std::string text;
  if (!own || is_layer(row.point)) return text;
  for (const Measurement& m : row.measurements)
    if (m.variant != VariantKind::smoe && m.variant != VariantKind::smoe_no_reuse)
      text += fmt::format("  speed: {:.3f} x {}, forward {:.3f}, backward {:.3f}\n",
                          m.ms() / own->ms(), name_of(m.variant), m.forward_ms / own->forward_ms,
                          m.backward_ms / own->backward_ms);
  return text;
}

constexpr VariantKind kCharted[] = {
    VariantKind::smoe, VariantKind::smoe_no_reuse, VariantKind::padded, VariantKind::gathered,
    VariantKind::loop, VariantKind::dense,         VariantKind::copied, VariantKind::moe_mlp_gemms};
constexpr const char* kColors[] = {"--series-1", "--dim",      "--series-2", "--series-3",
                                   "--series-4", "--series-5", "--series-2", "--series-4"};

template <class Value>
std::string sweep_chart(const SweepResult& result, const std::string& title,
                        const std::string& note, Unit unit, Value value) {
  Chart chart{.title = title, .note = note, .unit = unit, .is_from_zero = true};
  chart.x_name = result.sweep.x_name;
  for (const VariantKind kind : kCharted) {
    Curve curve{.name = name_of(kind), .color = kColors[static_cast<int>(kind)], .points = {}};
    curve.has_dots = true;
    for (const SweepRow& row : result.rows)
      if (const Measurement* const m = find(row, kind)) {
        const double v = value(row, *m);
        curve.points.push_back({.step = row.point.x, .value = v, .low = v, .high = v});
        chart.last_step = std::max(chart.last_step, row.point.x);
      }
    if (!curve.points.empty()) chart.curves.push_back(std::move(curve));
  }
  return line_chart(chart);
}

std::string sweep_section(const SweepResult& result) {
  const bool trains = result.sweep.trains;
  std::string html = fmt::format("<h2>{}: {}</h2><div class=\"charts\">",
                                 escaped(result.sweep.name), escaped(result.sweep.meaning));
  const bool is_model = result.sweep.name == "model", is_cpu = result.device.starts_with("CPU");
  html += sweep_chart(
      result, "Throughput",
      fmt::format("{}/s, forward{}", is_cpu ? "GFLOP" : "TFLOP", trains ? " and backward" : ""),
      Unit::number, [&](const SweepRow& row, const Measurement& m) {
        return tflops_of(row, m, trains) * (is_cpu ? 1e3 : 1);
      });
  if (!is_model)
    html += sweep_chart(
        result, "Kept memory", trains ? "for backward, with the output" : "the output", Unit::bytes,
        [](const SweepRow&, const Measurement& m) { return static_cast<double>(m.kept_bytes); });
  html += sweep_chart(
      result, "Peak memory", is_model ? "of a step" : "above the inputs, without weight gradients",
      Unit::bytes,
      [](const SweepRow&, const Measurement& m) { return static_cast<double>(m.peak_bytes); });
  html += card_head("Table", bench_foot(result), true) + "<pre>" + escaped(bench_text(result)) +
          "</pre></figure>";
  return html + "</div>\n";
}

}  // namespace

std::string bench_head(const Sweep& sweep, const std::string& device) {
  return fmt::format("{}: {}, on {}\n", sweep.name, sweep.meaning, device);
}

std::string bench_row_head(const Sweep& sweep, const SweepPoint& point) {
  return fmt::format("{} = {:g}    {}\n", sweep.x_name, point.x, shape_text(point)) +
         fmt::format("  {:<16}{:>11}{:>12}{:>11}{:>14}{:>12}{:>12}{:>9}\n", "", "forward",
                     sweep.trains ? "backward" : "", "tokens/s", "speed", "kept MiB", "peak MiB",
                     "error");
}

std::string bench_line(const Sweep& sweep, const SweepRow& row, const Measurement& m) {
  return fmt::format(
      "  {:<16}{:>8.3f} ms{:>12}{:>11}{:>14}{:>12}{:>12.1f}{:>9.0e}\n", name_of(m.variant),
      m.forward_ms, sweep.trains ? fmt::format("{:.3f} ms", m.backward_ms) : "",
      short_count(1e3 * static_cast<double>(row.point.shape.num_tokens) / m.ms()),
      short_flops(1e12 * tflops_of(row, m, sweep.trains)) + "/s",
      row.point.model ? "" : fmt::format("{:.1f}", mib(m.kept_bytes)), mib(m.peak_bytes), m.error);
}

std::string bench_row_foot(const SweepRow& row) {
  std::string text;
  for (const std::string& reason : row.refused) text += "  not shown: " + reason + "\n";
  return text + memory_sentence(row) + speed_sentences(row);
}

std::string bench_foot(const SweepResult& result) {
  std::string text;
  for (const VariantKind kind : kVariants) {
    if (kind == VariantKind::smoe || kind == VariantKind::smoe_no_reuse) continue;
    if (const auto x = break_even(result, kind))
      text += fmt::format("break-even with {} at {} = {:.3g}\n", name_of(kind), result.sweep.x_name,
                          *x);
  }
  const bool has_order = result.rows.empty() || !result.rows[0].point.mode;  // cases have none
  return (has_order ? text : "") + paper_sentence(result.sweep);
}

std::string bench_text(const SweepResult& result) {
  std::string text = bench_head(result.sweep, result.device);
  for (const SweepRow& row : result.rows) {
    text += bench_row_head(result.sweep, row.point);
    for (const Measurement& m : row.measurements) text += bench_line(result.sweep, row, m);
    text += bench_row_foot(row);
  }
  return text + bench_foot(result);
}

std::string bench_csv(const std::vector<SweepResult>& results) {
  std::string text =
      "sweep,x_name,x,tokens,d_model,d_expert,experts,top_k,dtype,variant,forward_ms,backward_ms,"
      "tflops,kept_bytes,peak_bytes,error,layouts\n";
  for (const SweepResult& result : results)
    for (const SweepRow& row : result.rows)
      for (const Measurement& m : row.measurements) {
        const ExpertShape& s = row.point.shape;
        fmt::format_to(std::back_inserter(text),
                       "{},{},{},{},{},{},{},{},{},\"{}\",{},{},{},{},{},{},{}\n",
                       result.sweep.name, result.sweep.x_name, row.point.x, s.num_tokens, s.d_model,
                       s.d_expert, s.num_experts, s.top_k, name_of(s.dtype), name_of(m.variant),
                       m.forward_ms, m.backward_ms, tflops_of(row, m, result.sweep.trains),
                       m.kept_bytes, m.peak_bytes, m.error, mode_text(row.point));
      }
  return text;
}

std::string bench_json(const std::vector<SweepResult>& results) {
  nlohmann::ordered_json list = nlohmann::ordered_json::array();
  for (const SweepResult& result : results) {
    nlohmann::ordered_json rows = nlohmann::ordered_json::array();
    for (const SweepRow& row : result.rows) {
      const ExpertShape& s = row.point.shape;
      nlohmann::ordered_json variants;
      for (const Measurement& m : row.measurements)
        variants[name_of(m.variant)] = {{"forward_ms", m.forward_ms},
                                        {"backward_ms", m.backward_ms},
                                        {"kept_bytes", m.kept_bytes},
                                        {"peak_bytes", m.peak_bytes},
                                        {"backward_peak_bytes", m.backward_peak_bytes},
                                        {"error", m.error}};
      nlohmann::ordered_json json{{"x", row.point.x},
                                  {"tokens", s.num_tokens},
                                  {"d_model", s.d_model},
                                  {"d_expert", s.d_expert},
                                  {"experts", s.num_experts},
                                  {"top_k", s.top_k},
                                  {"dtype", name_of(s.dtype)},
                                  {"imbalance", row.point.imbalance},
                                  {"layouts", mode_text(row.point)},
                                  {"padded_gemm_ratio", row.padded_gemm_ratio},
                                  {"variants", variants},
                                  {"refused", row.refused}};
      if (row.point.attention) {
        json["sequences"] = row.point.attention->num_sequences;
        json["heads"] = row.point.attention->num_heads;
      }
      rows.push_back(std::move(json));
    }
    list.push_back({{"sweep", result.sweep.name},
                    {"x_name", result.sweep.x_name},
                    {"device", result.device},
                    {"trains", result.sweep.trains},
                    {"rows", rows}});
  }
  return list.dump(1, ' ', false, nlohmann::ordered_json::error_handler_t::replace) + "\n";
}

std::string bench_page(const std::vector<SweepResult>& results) {
  std::string html = page_head("SMoE experiments");
  if (!results.empty()) html += "<p>" + escaped(results.front().device) + "</p>";
  html += "</header>\n";
  for (const SweepResult& result : results) html += sweep_section(result);
  return html + page_end();
}

}  // namespace smoe
