#include "train/report/report_page.h"

#include <fmt/format.h>

#include <cmath>

#include "core/system/format.h"
#include "layers/model_size.h"
#include "train/report/chart.h"
#include "train/report/load_map.h"
#include "train/report/page_frame.h"

namespace smoe {
namespace {

// ---- headline ----------------------------------------------------------------------------------

std::string tile(const std::string& name, const std::string& value, bool is_trouble = false) {
  return fmt::format("<div class=\"tile\"><small>{}</small><b{}>{}</b></div>", name,
                     is_trouble ? " class=\"trouble\"" : "", escaped(value));
}

std::string tiles(const RunHistory& history) {
  std::string html = "<div class=\"tiles\">";
  if (const auto& step = history.last_step()) {
    html += tile("training loss", fmt::format("{:.4f}", step->loss), !std::isfinite(step->loss));
  }
  if (const auto& validation = history.last_validation()) {
    html += tile("validation loss", fmt::format("{:.4f}", validation->loss));
    html += tile("bits per byte", fmt::format("{:.4f}", validation->bits_per_byte));
  }
  if (const auto& step = history.last_step()) {
    html += tile("tokens per second", short_count(step->tokens_per_s));
    if (step->mfu > 0) html += tile("MFU", fmt::format("{:.1f} %", 100 * step->mfu));
    html += tile("tokens trained on", short_count(static_cast<double>(step->tokens)));
    html += tile("training time", format_duration(history.trained_s()));
    if (step->step < step->steps)
      html += tile("time remaining",
                   format_duration(static_cast<double>(step->steps - step->step) * step->step_s));
    html += tile("peak memory", format_bytes(history.peak_bytes()));
    html += tile("expert imbalance", fmt::format("{:.2f}", step->imbalance));
    html += tile("dead experts", std::to_string(step->dead_experts), step->dead_experts > 0);
  }
  if (history.num_skipped() > 0)
    html += tile("steps skipped", std::to_string(history.num_skipped()), true);
  return html + "</div>";
}

// "10, 1,200": at most the last few.
std::string list_last(const std::vector<std::int64_t>& steps) {
  constexpr std::size_t kMaxShown = 5;
  std::string text = steps.size() > kMaxShown ? "..., " : "";
  for (std::size_t i = steps.size() - std::min(kMaxShown, steps.size()); i < steps.size(); ++i)
    text += grouped(steps[i]) + (i + 1 < steps.size() ? ", " : "");
  return text;
}

// "web (70 %), code (30 %)", or the path of a single set.
std::string data_of(const DataConfig& data) {
  if (data.sources.empty()) return data.path;
  double total = 0;
  for (const DataSource& source : data.sources) total += source.weight;
  std::string text;
  for (const DataSource& source : data.sources)
    text += fmt::format("{}{} ({:.3g} %)", text.empty() ? "" : ", ", source.name,
                        100 * source.weight / total);
  return text;
}

// The script calls a running run silent after this time: several log intervals, and longer than
// what a run does between them.
double silence_s(const RunHistory& history, const Config& config) {
  const double step_s = history.last_step() ? history.last_step()->step_s : 0;
  return 300 + 5 * step_s * static_cast<double>(config.log.every);
}

std::string status_line(const RunHistory& history, const Config& config, const PageStatus& status) {
  constexpr const char* kNames[] = {"running", "finished", "stopped"};
  return fmt::format(
      "<p class=\"status\" data-state=\"{0}\" data-updated=\"{1}\" data-silence=\"{2:.0f}\">{0} · "
      "updated {1}</p>",
      kNames[static_cast<int>(status.state)], escaped(status.updated), silence_s(history, config));
}

std::string headline(const RunHistory& history, const Config& config) {
  const ModelConfig& m = config.model;
  const ModelSize size = model_size(m);
  const std::int64_t step = history.last_step() ? history.last_step()->step : 0;
  std::string html = fmt::format(
      "<p>{} parameters, {} active · {} layers of width {} · {} experts of width {}, top {}</p>",
      short_count(static_cast<double>(size.total)), short_count(static_cast<double>(size.active)),
      m.num_layers, m.d_model, m.num_experts, m.d_expert, m.top_k);
  html += fmt::format("<p>{} · {} tokens per step", escaped(data_of(config.data)),
                      grouped(config.train.global_batch * config.train.seq_len));
  if (const auto& start = history.last_start())
    html += fmt::format(" · {}, {} threads · started {}", escaped(start->device), start->threads,
                        escaped(start->time));
  html += "</p>";
  const std::string restarts =
      history.restarts().empty()
          ? ""
          : fmt::format(" · dashed lines: resumed after step {}", list_last(history.restarts()));
  for (const ChangeReport& change : history.changes())
    html += fmt::format("<p>changed after step {}: {}</p>", grouped(change.step),
                        escaped(summary_of(change)));
  return html + fmt::format("<p>step {} of {}{}</p><progress value=\"{}\" max=\"{}\"></progress>",
                            grouped(step), grouped(config.train.steps), restarts, step,
                            config.train.steps);
}

// ---- curves ------------------------------------------------------------------------------------

// The curve of one value; bins without a finite value are omitted.
template <class Bin>
Curve curve_of(const std::vector<Bin>& bins, Spread Bin::*value, const std::string& name,
               const std::string& color) {
  Curve curve{.name = name, .color = color, .points = {}};
  for (const Bin& bin : bins) {
    const Spread& spread = bin.*value;
    if (!spread.empty())
      curve.points.push_back(
          {.step = bin.step.mean(), .value = spread.mean(), .low = spread.min, .high = spread.max});
  }
  return curve;
}

class Charts {
 public:
  Charts(const RunHistory& history, const Config& config)
      : history_(history), vocab_size_(config.model.vocab_size) {
    if (const auto& last = history.last_validation())
      for (const SourceReport& source : last->sources) sources_.push_back(source.name);
    if (history.last_step()) last_step_ = static_cast<double>(history.last_step()->step);
    if (const auto& validation = history.last_validation())
      last_step_ = std::max(last_step_, static_cast<double>(validation->step));
  }

  double last_step() const { return last_step_; }

  std::string loss() const {
    Chart chart = titled("Loss", "cross-entropy, nats per token");
    if (vocab_size_ > 0) chart.levels.push_back({uniform_loss(), "uniform guess"});
    chart.curves.push_back(step_curve(&StepBin::loss, "training"));
    Curve validation =
        curve_of(history_.validations(), &ValidationBin::loss, "validation", "--series-2");
    validation.has_dots = validation.points.size() <= 60;
    chart.curves.push_back(std::move(validation));
    return line_chart(chart);
  }

  std::string bits_per_byte() const {
    Chart chart = titled("Validation", "bits per byte");
    chart.curves.push_back(curve_of(history_.validations(), &ValidationBin::bits_per_byte,
                                    sources_.empty() ? "bits per byte" : "all", "--series-2"));
    for (std::size_t i = 0; i < sources_.size(); ++i) chart.curves.push_back(source_curve(i));
    for (Curve& curve : chart.curves) curve.has_dots = curve.points.size() <= 60;
    if (const auto& last = history_.last_validation(); last && last->loss > 0 && vocab_size_ > 0)
      chart.levels.push_back({uniform_loss() / last->loss * last->bits_per_byte, "uniform guess"});
    return line_chart(chart);
  }

  std::string of_steps(Spread StepBin::*value, const std::string& title, const std::string& note,
                       bool is_from_zero = false, bool is_log = false) const {
    Chart chart = titled(title, note);
    chart.is_from_zero = is_from_zero;
    chart.is_log = is_log;
    chart.curves.push_back(step_curve(value, title));
    return line_chart(chart);
  }

  std::string memory() const {
    const std::int64_t capacity = history_.last_start() ? history_.last_start()->device_bytes : 0;
    Chart chart = titled(
        "Memory", "of tensors at the peak, by category" +
                      (capacity ? "; the device has " + format_bytes(capacity) : std::string()));
    chart.unit = Unit::bytes;
    if (capacity) chart.levels.push_back({static_cast<double>(capacity), "device"});
    for (int c = 0; c < kNumCategories; ++c) {
      Curve curve{.name = name_of(static_cast<Category>(c)),
                  .color = fmt::format("--series-{}", c + 1),
                  .points = {}};
      for (const StepBin& bin : history_.steps())
        curve.points.push_back(
            {.step = bin.step.mean(), .value = static_cast<double>(bin.memory_bytes[c])});
      chart.curves.push_back(std::move(curve));
    }
    return stacked_chart(chart);
  }

 private:
  // Nats per token of a uniform distribution over the vocabulary.
  double uniform_loss() const { return std::log(static_cast<double>(vocab_size_)); }
  Chart titled(const std::string& title, const std::string& note) const {
    Chart chart{
        .title = title, .note = note, .last_step = last_step_, .marks = history_.restarts()};
    for (const ChangeReport& change : history_.changes())
      chart.changes.push_back({change.step, summary_of(change)});
    return chart;
  }
  Curve source_curve(std::size_t index) const {
    constexpr int kColors[] = {1, 3, 4, 5};
    Curve curve{.name = sources_[index],
                .color = fmt::format("--series-{}", kColors[index % std::size(kColors)]),
                .points = {}};
    for (const ValidationBin& bin : history_.validations()) {
      const auto found = bin.source_bits_per_byte.find(curve.name);
      if (found == bin.source_bits_per_byte.end() || found->second.empty()) continue;
      const Spread& spread = found->second;
      curve.points.push_back(
          {.step = bin.step.mean(), .value = spread.mean(), .low = spread.min, .high = spread.max});
    }
    return curve;
  }
  Curve step_curve(Spread StepBin::*value, const std::string& name) const {
    return curve_of(history_.steps(), value, name, "--series-1");
  }

  const RunHistory& history_;
  std::int64_t vocab_size_;
  std::vector<std::string> sources_;  // of the last validation
  double last_step_ = 1;
};

// Tokens and hours at steps, for the script's other x axes.
std::string reached(const std::vector<StepBin>& bins) {
  std::string steps, tokens, hours;
  for (const StepBin& bin : bins) {
    if (bin.tokens.empty() || bin.trained_s.empty()) continue;
    const char* const separator = steps.empty() ? "" : ",";
    steps += fmt::format("{}{:.7g}", separator, bin.step.mean());
    tokens += fmt::format("{}{:.7g}", separator, bin.tokens.mean());
    hours += fmt::format("{}{:.5g}", separator, bin.trained_s.mean() / 3600);
  }
  return fmt::format(
      R"(<script type="application/json" id="reached">{{"step":[{}],"tokens":[{}],"hours":[{}]}}</script>)",
      steps, tokens, hours);
}

// Whether the gradient norm spans decades and needs a logarithmic axis.
bool spans_decades(const std::vector<StepBin>& bins) {
  Spread all;
  for (const StepBin& bin : bins) all.merge(bin.grad_norm);
  return !all.empty() && all.min > 0 && all.max > 30 * all.min;
}

// ---- layers ------------------------------------------------------------------------------------

// Of the routers, where a layer has several.
std::vector<std::string> router_names(const StepReport& step) {
  std::vector<std::string> names;
  for (const LayerReport& layer : step.layers)
    if (!layer.router.empty()) names.push_back(layer.router);
  return names;
}

std::string layer_table(const StepReport& step) {
  std::string html = fmt::format(
      "<div class=\"card wide\"><figcaption><b>Layers at step {}</b></figcaption><div "
      "class=\"table\">"
      "<table><tr><th>layer</th><th>largest over mean load</th><th>entropy</th><th>dead "
      "experts</th><th>balance loss</th><th>z loss</th></tr>",
      step.step);
  for (std::size_t l = 0; l < step.layers.size(); ++l) {
    const LayerReport& layer = step.layers[l];
    html += fmt::format(
        "<tr><td>{}</td><td>{:.2f}</td><td>{:.3f}</td><td{}>{}</td><td>{:.4f}</td><td>{:.4f}</td>"
        "</tr>",
        layer.router.empty() ? fmt::format("{}", l) : escaped(layer.router), layer.load.imbalance,
        layer.load.entropy, layer.load.dead > 0 ? " class=\"trouble\"" : "", layer.load.dead,
        layer.balance_loss, layer.z_loss);
  }
  return html + "</table></div></div>";
}

}  // namespace

RunState ended_state(const RunHistory& history) {
  const auto& last = history.last_step();
  return last && last->step >= last->steps ? RunState::finished : RunState::stopped;
}

std::string report_page(const RunHistory& history, const Config& config, const PageStatus& status) {
  const Charts charts(history, config);
  std::string html = page_head(config.run.name) + status_line(history, config, status);
  html += headline(history, config) + "</header>" + tiles(history) + reached(history.steps());

  html += "\n<h2>Training</h2><div class=\"choices\"></div><div class=\"charts\">";
  html += charts.loss();
  html += charts.bits_per_byte();
  html += charts.of_steps(&StepBin::tokens_per_s, "Throughput", "tokens per second", true);
  html += charts.memory();
  html += charts.of_steps(&StepBin::lr, "Learning rate", "", true);
  html += charts.of_steps(&StepBin::grad_norm, "Gradient norm", "before clipping", false,
                          spans_decades(history.steps()));
  html += "</div>\n<h2>Experts</h2><div class=\"charts\">";
  html += load_map(
      history.loads(), charts.last_step(),
      history.last_step() ? router_names(*history.last_step()) : std::vector<std::string>{});
  html += charts.of_steps(&StepBin::imbalance, "Imbalance",
                          "largest over mean load of the worst router; 1 at balance");
  html += charts.of_steps(&StepBin::entropy, "Load entropy",
                          "mean and range over routers; 1 at balance");
  html += charts.of_steps(&StepBin::balance_loss, "Balance loss",
                          "mean and range over routers; 1 at balance");
  html += charts.of_steps(&StepBin::z_loss, "Router z loss", "mean and range over routers");
  html += charts.of_steps(&StepBin::dead_experts, "Dead experts",
                          "experts without a token in a step, over all layers", true);
  if (const auto& step = history.last_step(); step && !step->layers.empty())
    html += layer_table(*step);
  html += "</div>\n<details class=\"card\"><summary>Configuration</summary><pre>" +
          escaped(to_yaml(config)) + "</pre></details>\n";
  return html + page_end();
}

}  // namespace smoe
