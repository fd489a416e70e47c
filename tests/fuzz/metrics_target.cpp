// metrics.jsonl, the source of a report.
#include <limits>

#include "tests/fuzz/target.h"
#include "train/config/config.h"
#include "train/report/metrics_file.h"
#include "train/report/report_page.h"

namespace smoe::fuzz {
namespace {

constexpr std::size_t kMaxPageBytes = 8 << 20;

std::string sample_lines() {
  StartReport start{.steps = 3, .time = "2026-03-21T14:05:09Z", .device = "cpu", .threads = 2};
  std::string lines = metrics_line(start) + "\n";
  for (std::int64_t step = 1; step <= 3; ++step) {
    StepReport report;
    report.step = step;
    report.steps = 3;
    report.tokens = 100 * step;
    report.loss = step == 2 ? std::numeric_limits<double>::quiet_NaN() : 1.5;
    report.peak_bytes = 1 << 20;
    report.memory_bytes = {1, 2, 3};
    report.layers.resize(2);
    for (LayerReport& layer : report.layers) {
      layer.expert_rows = {10, 20, 0, 5};
      layer.load = expert_load(layer.expert_rows);
      layer.z_loss = std::numeric_limits<double>::infinity();
    }
    lines += metrics_line(report) + "\n";
  }
  ValidationReport validation{.step = 3, .steps = 3, .tokens = 50, .loss = 2.5};
  validation.sources = {{"web", 25, 2.0, 3.0}, {"books", 25, 3.0, 3.1}};
  return lines + metrics_line(validation) + "\n";
}

void read(const std::string& path, const Config& config, const std::string& input) {
  put_file(path, input);
  RunHistory history;
  read_metrics(
      path,
      [&](const Report& report) {
        history.add(report);
        const std::string line = metrics_line(report);
        require(metrics_line(parse_metrics_line(line)) == line,
                "parses to another line after printing: ", line);
      },
      [](const std::string&) {});
  if (input.size() % 32 != 0) return;  // rendering a page takes longest
  const std::string page = report_page(history, config, {});
  require(page.size() <= kMaxPageBytes, "a page of ", page.size(), " bytes");
  require(page.find("<script src") == std::string::npos, "a page that loads a script");
}

}  // namespace

Target metrics_target(const Playground& playground) {
  const std::string path = playground.folder + "/metrics.jsonl";
  Config config;
  config.run.name = "fuzz";
  config.model.vocab_size = 300;
  config.model.num_layers = config.model.num_experts = config.model.top_k = 2;
  config.model.d_model = config.model.num_heads = config.model.num_kv_heads = 4;
  config.model.head_dim = config.model.d_expert = 4;
  config.train.steps = config.train.seq_len = 3;
  config.train.micro_batch = config.train.global_batch = 1;
  Target target;
  target.seeds = {sample_lines(), "",
                  "{\"kind\":\"step\",\"step\":5}\n{\"kind\":\"step\",\"step\":4}\n"};
  target.dictionary = {"{",
                       "}",
                       "[",
                       "]",
                       ",",
                       ":",
                       "\"",
                       "null",
                       "true",
                       "{\"a\":",
                       "[[",
                       "\n",
                       "{}\n",
                       "\"kind\":\"step\"",
                       "\"kind\":\"validation\"",
                       "\"kind\":\"start\"",
                       "\"step\":",
                       "\"layers\":{",
                       "\"expert_rows\":[[",
                       "\"nonfinite\":{",
                       "\"nan\"",
                       "\"inf\"",
                       "\"sources\":{",
                       "\"name\":[\"",
                       "1e308",
                       "-1e308",
                       "<script src=",
                       "</svg>",
                       "\\u0000",
                       "\xff",
                       "\"" + playground.canary + "\""};
  target.read = [path, config](const std::string& input) { read(path, config, input); };
  return target;
}

}  // namespace smoe::fuzz
