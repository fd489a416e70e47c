#include "train/report/metrics_file.h"

#include <optional>
#include <string_view>
#include <vector>

#include "core/base/check.h"
#include "core/system/folder.h"

namespace smoe {
namespace {

/// Longer than any line written: enough for 500 experts in each of 1,000 layers.
constexpr std::size_t kMaxLine = std::size_t{1} << 22;

/// Calls take(line, end) for the file's complete lines, without their newlines; `end` is the offset
/// after the newline. A line that is too long is passed as an empty one.
template <class Take>
void for_each_line(const File& file, Take&& take) {
  std::string unread;  // the beginning of a line
  bool is_too_long = false;
  std::string block(std::size_t{1} << 20, '\0');
  for (std::int64_t offset = 0;;) {
    const std::int64_t got =
        file.read_some_at(offset, block.data(), static_cast<std::int64_t>(block.size()));
    if (got == 0) return;
    std::string_view rest(block.data(), static_cast<std::size_t>(got));
    offset += got;
    for (std::size_t end; (end = rest.find('\n')) != std::string_view::npos;) {
      unread.append(rest.substr(0, end));
      rest.remove_prefix(end + 1);
      is_too_long |= unread.size() > kMaxLine;
      take(is_too_long ? "" : std::string_view(unread),
           offset - static_cast<std::int64_t>(rest.size()));
      unread.clear();
      is_too_long = false;
    }
    unread.append(rest);
    if (unread.size() <= kMaxLine) continue;
    is_too_long = true;
    unread.clear();
  }
}

/// Parses lines, and counts those that are damaged.
class LineParser {
 public:
  explicit LineParser(const std::string& path) : path_(path) {}

  /// Empty for a damaged line.
  std::optional<Report> parse(std::string_view line) {
    ++line_number_;
    try {
      return parse_metrics_line(line);
    } catch (const UsageError& error) {
      if (++num_damaged_ == 1)
        first_problem_ = concat(path_, ":", line_number_, ": ", error.what());
      return std::nullopt;
    }
  }
  std::int64_t num_damaged() const { return num_damaged_; }
  /// Reports the first `num_damaged` of them.
  void warn_if_damaged(std::int64_t num_damaged, const OnWarning& warn) const {
    if (num_damaged > 0)
      warn(concat(first_problem_, "; passed over, with ", num_damaged - 1, " more damaged lines"));
  }

 private:
  std::string path_, first_problem_;
  std::int64_t line_number_ = 0, num_damaged_ = 0;
};

/// Opens the file after removing the lines that a resumed run will write again; calls `take` with
/// the reports of the others.
LineWriter open_truncated(const std::string& path, std::int64_t resumed_step, const OnReport& take,
                          const OnWarning& warn) {
  if (kind_of(path) != PathKind::none) {
    File file = File::open_append(path);
    LineParser parser(path);
    std::int64_t kept = 0, num_damaged = 0;
    std::vector<Report> unsure;  // since the last line that is kept
    if (resumed_step > 0)
      for_each_line(file, [&](std::string_view line, std::int64_t end) {
        std::optional<Report> report = parser.parse(line);
        if (!report) return;
        unsure.push_back(std::move(*report));
        if (step_of(unsure.back()) > resumed_step) return;
        kept = end;
        num_damaged = parser.num_damaged();
        for (const Report& one : unsure) take(one);
        unsure.clear();
      });
    parser.warn_if_damaged(num_damaged, warn);
    if (kept < file.size()) file.resize(kept);
    file.close();
  }
  return LineWriter(path);
}

}  // namespace

void read_metrics(const std::string& path, const OnReport& take, const OnWarning& warn) {
  const File file = File::open(path);
  LineParser parser(path);
  for_each_line(file, [&](std::string_view line, std::int64_t) {
    if (const std::optional<Report> report = parser.parse(line)) take(*report);
  });
  parser.warn_if_damaged(parser.num_damaged(), warn);
}

MetricsFile::MetricsFile(const std::string& path, std::int64_t resumed_step, const OnReport& take,
                         const OnWarning& warn)
    : lines_(open_truncated(path, resumed_step, take, warn)) {}

}  // namespace smoe
