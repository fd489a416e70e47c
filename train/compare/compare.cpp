#include "train/compare/compare.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <optional>

#include "core/base/check.h"
#include "core/system/folder.h"
#include "core/system/format.h"
#include "layers/model_size.h"
#include "train/config/run_paths.h"
#include "train/config/settings.h"
#include "train/report/metrics_file.h"

namespace smoe {
namespace {

ComparedRun read_run(const std::string& path, const std::function<void(const std::string&)>& warn) {
  const RunPaths paths(path);
  for (const std::string& part : {paths.metrics_path(), paths.config_path()})
    SMOE_CHECK(kind_of(part) == PathKind::file, path,
               ": must be the folder of a run; got one without ", name_of_path(part));
  ComparedRun run{
      .path = path, .config = load_config(paths.config_path()), .history = {}, .label = {}};
  read_metrics(
      paths.metrics_path(), [&](const Report& report) { run.history.add(report); }, warn);
  return run;
}

// The last name of each path; where two are equal, the whole paths.
void set_labels(std::vector<ComparedRun>& runs) {
  std::map<std::string, int> counts;
  const auto short_name = [](std::string path) {
    while (path.size() > 1 && path.back() == '/') path.pop_back();
    return name_of_path(path);
  };
  for (const ComparedRun& run : runs) ++counts[short_name(run.path)];
  for (ComparedRun& run : runs) {
    const std::string name = short_name(run.path);
    run.label = counts[name] == 1 ? name : run.path;
  }
}

// The training loss at the end: the mean of the last tenth of the steps that the history keeps.
std::optional<double> final_loss(const RunHistory& history) {
  const auto& bins = history.steps();
  Spread all;
  for (std::size_t i = bins.size() - bins.size() / 10 - (bins.empty() ? 0 : 1); i < bins.size();
       ++i)
    all.merge(bins[i].loss);
  return all.empty() ? std::nullopt : std::optional(all.mean());
}

std::optional<double> median_rate(const RunHistory& history) {
  std::vector<double> rates;
  for (const StepBin& bin : history.steps())
    if (!bin.tokens_per_s.empty()) rates.push_back(bin.tokens_per_s.mean());
  if (rates.empty()) return std::nullopt;
  std::nth_element(rates.begin(), rates.begin() + rates.size() / 2, rates.end());
  return rates[rates.size() / 2];
}

template <class Value, class Format>
std::string text_of_value(const std::optional<Value>& value, Format format) {
  return value ? format(*value) : "-";
}

std::string table_text(const std::string& title, const std::vector<std::string>& labels,
                       const std::vector<std::pair<std::string, std::vector<std::string>>>& rows) {
  std::size_t first = title.size();
  std::vector<std::size_t> widths;
  for (const std::string& label : labels) widths.push_back(label.size());
  for (const auto& [name, values] : rows) {
    first = std::max(first, name.size());
    for (std::size_t i = 0; i < values.size(); ++i)
      widths[i] = std::max(widths[i], values[i].size());
  }
  const auto line = [&](const std::string& name, const std::vector<std::string>& values) {
    std::string text = fmt::format("{:<{}}", name, first);
    for (std::size_t i = 0; i < values.size(); ++i)
      text += fmt::format("  {:>{}}", values[i], widths[i]);
    return text + "\n";
  };
  std::string text = line(title, labels);
  for (const auto& [name, values] : rows) text += line(name, values);
  return text;
}

}  // namespace

std::vector<ComparedRun> read_runs(const std::vector<std::string>& paths,
                                   const std::function<void(const std::string&)>& warn) {
  SMOE_CHECK(paths.size() >= 2, "compare: at least two runs are needed; got ", paths.size());
  std::vector<ComparedRun> runs;
  for (const std::string& path : paths) {
    for (const ComparedRun& earlier : runs)
      SMOE_CHECK(!is_same_path(earlier.path, path), path, ": is the same run as ", earlier.path);
    runs.push_back(read_run(path, warn));
  }
  set_labels(runs);
  return runs;
}

std::vector<Difference> differences_of(const std::vector<ComparedRun>& runs) {
  std::vector<Difference> all;
  std::map<std::string, std::size_t> index;
  for (std::size_t r = 0; r < runs.size(); ++r)
    for (const Setting& setting : read_settings(to_yaml(runs[r].config), runs[r].path)) {
      if (setting.kind != Setting::Kind::scalar) continue;
      const auto [at, is_new] = index.try_emplace(setting.key, all.size());
      if (is_new) all.push_back({setting.key, std::vector<std::string>(runs.size(), "-")});
      all[at->second].values[r] = setting.value.text;
    }
  std::vector<Difference> different;
  for (Difference& d : all)
    if (std::any_of(d.values.begin(), d.values.end(),
                    [&](const std::string& v) { return v != d.values[0]; }))
      different.push_back(std::move(d));
  return different;
}

std::vector<ResultRow> results_of(const std::vector<ComparedRun>& runs) {
  std::vector<ResultRow> rows;
  const auto add = [&](const std::string& name, auto value_of) {
    ResultRow row{name, {}};
    for (const ComparedRun& run : runs) row.values.push_back(value_of(run));
    rows.push_back(std::move(row));
  };
  const auto number = [](int digits) {
    return [digits](double value) { return fmt::format("{:.{}f}", value, digits); };
  };
  const auto of_step = [](auto get) {
    return [get](const ComparedRun& run) -> std::string {
      return run.history.last_step() ? get(*run.history.last_step()) : "-";
    };
  };
  add("steps", of_step([](const StepReport& s) {
        return fmt::format("{} of {}", grouped(s.step), grouped(s.steps));
      }));
  add("tokens",
      of_step([](const StepReport& s) { return short_count(static_cast<double>(s.tokens)); }));
  add("parameters", [](const ComparedRun& run) {
    return short_count(static_cast<double>(model_size(run.config.model).total));
  });
  add("training loss, last tenth",
      [&](const ComparedRun& run) { return text_of_value(final_loss(run.history), number(4)); });
  add("validation loss", [&](const ComparedRun& run) {
    const auto& v = run.history.last_validation();
    return v ? number(4)(v->loss) : "-";
  });
  add("best validation loss", [&](const ComparedRun& run) {
    const auto& v = run.history.best_validation();
    return v ? fmt::format("{:.4f} at {}", v->loss, v->step) : "-";
  });
  add("bits per byte", [&](const ComparedRun& run) {
    const auto& v = run.history.last_validation();
    return v ? number(4)(v->bits_per_byte) : "-";
  });
  add("tokens per second, median",
      [](const ComparedRun& run) { return text_of_value(median_rate(run.history), short_count); });
  add("MFU", of_step([](const StepReport& s) {
        return s.mfu > 0 ? fmt::format("{:.1f} %", 100 * s.mfu) : std::string("-");
      }));
  add("training time",
      [](const ComparedRun& run) { return format_duration(run.history.trained_s()); });
  add("peak memory", [](const ComparedRun& run) { return format_bytes(run.history.peak_bytes()); });
  add("expert imbalance", of_step([&](const StepReport& s) { return number(2)(s.imbalance); }));
  add("dead experts", of_step([](const StepReport& s) { return std::to_string(s.dead_experts); }));
  return rows;
}

std::string compare_text(const std::vector<ComparedRun>& runs) {
  std::vector<std::string> labels;
  for (const ComparedRun& run : runs) labels.push_back(run.label);
  std::vector<std::pair<std::string, std::vector<std::string>>> results, keys;
  for (const ResultRow& row : results_of(runs)) results.emplace_back(row.name, row.values);
  for (const Difference& d : differences_of(runs)) keys.emplace_back(d.key, d.values);
  std::string text = table_text("results", labels, results);
  return text + "\n" +
         (keys.empty() ? "no key differs\n" : table_text("keys that differ", labels, keys));
}

}  // namespace smoe
