#include "train/report/metrics_file.h"

#include <cmath>
#include <nlohmann/json.hpp>
#include <string_view>

namespace smoe {
namespace {

using Json = nlohmann::ordered_json;

/// Collects the fields of one line; the last one names the numbers JSON cannot hold.
class Line {
 public:
  Line(const char* kind, std::int64_t step, std::int64_t steps)
      : fields_{{"kind", kind}, {"step", step}, {"steps", steps}} {}

  void add(const char* name, double value) {
    fields_[name] = std::isfinite(value) ? Json(value) : Json(nullptr);
    if (std::isnan(value)) nonfinite_[name] = "nan";
    if (std::isinf(value)) nonfinite_[name] = value > 0 ? "inf" : "-inf";
  }
  void add(const char* name, std::int64_t value) { fields_[name] = value; }
  void add(const char* name, bool value) { fields_[name] = value; }

  std::string text() {
    if (!nonfinite_.empty()) fields_["nonfinite"] = nonfinite_;
    return fields_.dump();
  }

 private:
  Json fields_;
  Json nonfinite_;
};

/// More than any line of ours has.
constexpr std::size_t kMaxLine = std::size_t{1} << 16;

/// Whether `line` is a line of ours about at most `last_step` steps.
bool is_line_up_to(std::string_view line, std::int64_t last_step) {
  if (line.size() > kMaxLine) return false;
  const Json parsed = Json::parse(line, nullptr, /*allow_exceptions=*/false);
  if (!parsed.is_object()) return false;
  const auto step = parsed.find("step");
  return step != parsed.end() && step->is_number_integer() &&
         step->get<std::int64_t>() <= last_step;
}

/// Bytes of the lines at the file's start that a run resumed at `last_step` keeps.
std::int64_t kept_bytes(const File& file, std::int64_t last_step) {
  std::string unread;  // from `kept` on
  std::int64_t kept = 0;
  std::string block(std::size_t{1} << 20, '\0');
  for (std::int64_t offset = 0;;) {
    const std::int64_t got =
        file.read_some_at(offset, block.data(), static_cast<std::int64_t>(block.size()));
    if (got == 0) return kept;
    offset += got;
    unread.append(block, 0, got);
    std::size_t begin = 0;
    for (std::size_t end; (end = unread.find('\n', begin)) != std::string::npos; begin = end + 1) {
      if (!is_line_up_to(std::string_view(unread).substr(begin, end - begin), last_step))
        return kept;
      kept += static_cast<std::int64_t>(end + 1 - begin);
    }
    unread.erase(0, begin);
    if (unread.size() > kMaxLine) return kept;
  }
}

/// Opens the file after cutting what a resumed run tells anew.
LineWriter open_after_cut(const std::string& path, std::int64_t resumed_step) {
  if (kind_of(path) != PathKind::none) {
    File file = File::open_append(path);
    const std::int64_t kept = kept_bytes(file, resumed_step);
    if (kept < file.size()) file.resize(kept);
    file.close();
  }
  return LineWriter(path);
}

}  // namespace

std::string metrics_line(const StepReport& report) {
  Line line("step", report.step, report.steps);
  line.add("tokens", report.tokens);
  line.add("loss", report.loss);
  line.add("balance_loss", report.balance_loss);
  line.add("z_loss", report.z_loss);
  line.add("lr", report.lr);
  line.add("grad_norm", report.grad_norm);
  line.add("tokens_per_s", report.tokens_per_s);
  line.add("step_s", report.step_s);
  line.add("elapsed_s", report.elapsed_s);
  line.add("peak_bytes", report.peak_bytes);
  line.add("imbalance", report.imbalance);
  line.add("dead_experts", report.dead_experts);
  line.add("skipped", report.is_skipped);
  return line.text();
}

std::string metrics_line(const ValidationReport& report) {
  Line line("validation", report.step, report.steps);
  line.add("tokens", report.tokens);
  line.add("loss", report.loss);
  line.add("bits_per_byte", report.bits_per_byte);
  line.add("seconds", report.seconds);
  return line.text();
}

MetricsFile::MetricsFile(const std::string& path, std::int64_t resumed_step)
    : lines_(open_after_cut(path, resumed_step)) {}

}  // namespace smoe
