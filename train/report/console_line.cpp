#include "train/report/console_line.h"

#include <fmt/format.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <string_view>
#include <vector>

#include "core/system/format.h"

namespace smoe {
namespace {

/// The order in which columns are dropped on a narrow terminal, the last first; `kept` is never
/// dropped.
enum class Priority : std::uint8_t { kept, pace, health, detail };

/// Joins columns by two spaces, with colors in the terminal style.
class LineBuilder {
 public:
  explicit LineBuilder(LineStyle style) : style_(style) {}

  void add(std::string_view label, std::string_view value, Priority priority = Priority::kept) {
    begin(priority);
    paint(kDim, label);
    put(" ");
    put(value);
  }
  /// As add, with the value in bold.
  void add_bold(std::string_view label, std::string_view value) {
    begin(Priority::kept);
    paint(kDim, label);
    put(" ");
    paint(kBold, value);
  }
  void add_with_unit(std::string_view value, std::string_view unit, Priority priority) {
    begin(priority);
    put(value);
    put(" ");
    paint(kDim, unit);
  }
  void add_plain(std::string_view value, Priority priority) {
    begin(priority);
    put(value);
  }
  void add_problem(std::string_view text) {
    begin(Priority::kept);
    paint(kYellow, text);
  }

  /// The line in at most `width` characters, 0: unlimited. Drops whole columns, those of the lowest
  /// priority first.
  std::string take(std::size_t width) {
    for (const Priority priority : {Priority::detail, Priority::health, Priority::pace})
      while (width > 0 && total_width() > width && drop_last(priority)) {
      }
    std::string line;
    for (const Column& column : columns_) line += (line.empty() ? "" : "  ") + column.text;
    return line;
  }

 private:
  struct Column {
    Priority priority;
    std::string text;
    std::size_t width;  // of text, without its colors
  };
  static constexpr std::string_view kDim = "\x1b[2m", kBold = "\x1b[1m", kYellow = "\x1b[33m",
                                    kPlain = "\x1b[0m";

  void begin(Priority priority) { columns_.push_back({priority, "", 0}); }
  void put(std::string_view text) {
    columns_.back().text += text;
    columns_.back().width += text.size();
  }
  void paint(std::string_view color, std::string_view text) {
    if (style_ == LineStyle::terminal) columns_.back().text += color;
    put(text);
    if (style_ == LineStyle::terminal) columns_.back().text += kPlain;
  }
  std::size_t total_width() const {
    std::size_t width = 0;
    for (const Column& column : columns_) width += column.width + 2;
    return width - 2;
  }
  bool drop_last(Priority priority) {
    const auto last = std::find_if(columns_.rbegin(), columns_.rend(), [=](const Column& column) {
      return column.priority == priority;
    });
    if (last == columns_.rend()) return false;
    columns_.erase(std::next(last).base());
    return true;
  }

  LineStyle style_;
  std::vector<Column> columns_;
};

/// "  120/2000": equally wide for all steps.
std::string progress(std::int64_t step, std::int64_t steps) {
  const std::string total = std::to_string(steps);
  return fmt::format("{:>{}}/{}", step, total.size(), total);
}

/// A rate in at most six characters: "873", "12.3k", "4.56M".
std::string format_rate(double rate) {
  if (!std::isfinite(rate)) return "?";
  if (rate < 1e3) return fmt::format("{:.0f}", rate);
  if (rate < 1e6) return fmt::format("{:.1f}k", rate / 1e3);
  return fmt::format("{:.2f}M", rate / 1e6);
}

/// Without the sign of a NaN, which has no meaning.
double shown(double value) {
  return std::isnan(value) ? std::abs(value) : value;
}

/// Five characters for ordinary values; others get an exponent, so that the width stays constant.
std::string format_norm(double norm) {
  if (norm != 0 && std::isfinite(norm) && (norm >= 99.995 || norm < 0.001))
    return fmt::format("{:.0e}", norm);
  return fmt::format("{:.{}f}", shown(norm), norm < 9.9995 ? 3 : 2);
}

constexpr double kLeastShare = 0.005;  // of the time: smaller ones round to 0 %

}  // namespace

LineStyle console_style() {
  const char* no_color = std::getenv("NO_COLOR");
  const char* terminal = std::getenv("TERM");
  const bool shows_colors = terminal && std::string_view(terminal) != "dumb";
  const bool is_wanted = !no_color || !*no_color;
  return shows_colors && is_wanted && ::isatty(STDOUT_FILENO) ? LineStyle::terminal
                                                              : LineStyle::plain;
}

std::size_t console_width() {
  winsize size{};
  return ::ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0 ? size.ws_col : 0;
}

std::string console_line(const StepReport& report, LineStyle style, std::size_t width) {
  LineBuilder line(style);
  line.add("step", progress(report.step, report.steps));
  line.add_bold("loss", fmt::format("{:>7.4f}", shown(report.loss)));
  line.add("lr", fmt::format("{:.2e}", report.lr), Priority::detail);
  line.add("norm", fmt::format("{:>5}", format_norm(report.grad_norm)), Priority::health);
  line.add_with_unit(fmt::format("{:>6}", format_rate(report.tokens_per_s)), "tok/s",
                     Priority::pace);
  if (report.mfu > 0)
    line.add("mfu", fmt::format("{:>4.1f} %", 100 * report.mfu), Priority::detail);
  line.add_plain(fmt::format("{:>8}", format_bytes(report.peak_bytes)), Priority::detail);
  line.add("imb", fmt::format("{:>5.2f}", shown(report.imbalance)), Priority::health);
  for (const auto& [name, share] : {std::pair{"data", report.data_share},
                                    {"comm", report.communication_share},
                                    {"save", report.save_share}})
    if (share >= kLeastShare)
      line.add(name, fmt::format("{:.0f} %", 100 * share), Priority::detail);
  const double remaining = static_cast<double>(report.steps - report.step) * report.step_s;
  line.add("eta", fmt::format("{:>6}", format_duration(remaining)), Priority::pace);
  if (report.dead_experts > 0) line.add_problem(fmt::format("dead {}", report.dead_experts));
  if (report.is_skipped) line.add_problem("skipped: not finite");
  return line.take(width);
}

std::string console_line(const ValidationReport& report, LineStyle style, std::size_t width) {
  LineBuilder line(style);
  line.add("step", progress(report.step, report.steps));
  line.add_bold("validation loss", fmt::format("{:.4f}", shown(report.loss)));
  line.add_bold("bits per byte", fmt::format("{:.4f}", shown(report.bits_per_byte)));
  for (const SourceReport& source : report.sources)
    line.add(source.name, fmt::format("{:.4f}", source.bits_per_byte), Priority::detail);
  line.add("in", format_duration(report.seconds), Priority::detail);
  return line.take(width);
}

std::string console_line(const ChangeReport& report, LineStyle style, std::size_t) {
  LineBuilder line(style);
  line.add("step", progress(report.step, report.steps));
  line.add_bold("changed:", summary_of(report));
  return line.take(0);
}

}  // namespace smoe
