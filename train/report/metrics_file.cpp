#include "train/report/metrics_file.h"

#include <optional>
#include <string_view>

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

bool is_report_up_to(std::string_view line, std::int64_t last_step) {
  try {
    return step_of(parse_metrics_line(line)) <= last_step;
  } catch (const UsageError&) {
    return false;
  }
}

/// Opens the file after removing the lines that a resumed run will write again.
LineWriter open_truncated(const std::string& path, std::int64_t resumed_step) {
  if (kind_of(path) != PathKind::none) {
    File file = File::open_append(path);
    std::int64_t kept = 0;
    for_each_line(file, [&](std::string_view line, std::int64_t end) {
      if (resumed_step > 0 && is_report_up_to(line, resumed_step)) kept = end;
    });
    if (kept < file.size()) file.resize(kept);
    file.close();
  }
  return LineWriter(path);
}

}  // namespace

void read_metrics(const std::string& path, const std::function<void(const Report&)>& take,
                  const std::function<void(const std::string&)>& warn) {
  const File file = File::open(path);
  std::int64_t line_number = 0, num_damaged = 0;
  std::string first_problem;
  for_each_line(file, [&](std::string_view line, std::int64_t) {
    ++line_number;
    std::optional<Report> report;
    try {
      report = parse_metrics_line(line);
    } catch (const UsageError& error) {
      if (++num_damaged == 1) first_problem = concat(path, ":", line_number, ": ", error.what());
    }
    if (report) take(*report);
  });
  if (num_damaged > 0)
    warn(concat(first_problem, "; passed over, with ", num_damaged - 1, " more damaged lines"));
}

MetricsFile::MetricsFile(const std::string& path, std::int64_t resumed_step)
    : lines_(open_truncated(path, resumed_step)) {}

}  // namespace smoe
