#include "train/report/metrics_file.h"

#include <string_view>

#include "core/base/check.h"
#include "core/system/folder.h"

namespace smoe {
namespace {

/// More than any line of ours has: 500 experts in each of 1,000 layers.
constexpr std::size_t kMaxLine = std::size_t{1} << 22;

/// Calls take(line) for the file's lines, without their newlines, until it returns false, or a line
/// is too long, or none that ends is left. Returns the bytes of the lines that were taken.
template <class Take>
std::int64_t take_lines(const File& file, Take&& take) {
  std::string unread;  // from `taken` on
  std::int64_t taken = 0;
  std::string block(std::size_t{1} << 20, '\0');
  for (std::int64_t offset = 0;;) {
    const std::int64_t got =
        file.read_some_at(offset, block.data(), static_cast<std::int64_t>(block.size()));
    if (got == 0) return taken;
    offset += got;
    unread.append(block, 0, got);
    std::size_t begin = 0;
    for (std::size_t end; (end = unread.find('\n', begin)) != std::string::npos; begin = end + 1) {
      const std::string_view line = std::string_view(unread).substr(begin, end - begin);
      if (line.size() > kMaxLine || !take(line)) return taken;
      taken += static_cast<std::int64_t>(end + 1 - begin);
    }
    unread.erase(0, begin);
    if (unread.size() > kMaxLine) return taken;
  }
}

bool is_report_up_to(std::string_view line, std::int64_t last_step) {
  try {
    return step_of(parse_metrics_line(line)) <= last_step;
  } catch (const UsageError&) {
    return false;
  }
}

/// Opens the file after cutting what a resumed run tells anew.
LineWriter open_after_cut(const std::string& path, std::int64_t resumed_step) {
  if (kind_of(path) != PathKind::none) {
    File file = File::open_append(path);
    const std::int64_t kept = take_lines(file, [&](std::string_view line) {
      return resumed_step > 0 && is_report_up_to(line, resumed_step);
    });
    if (kept < file.size()) file.resize(kept);
    file.close();
  }
  return LineWriter(path);
}

}  // namespace

void read_metrics(const std::string& path, const std::function<void(const Report&)>& take) {
  const File file = File::open(path);
  std::int64_t line_number = 0;
  take_lines(file, [&](std::string_view line) {
    ++line_number;
    try {
      take(parse_metrics_line(line));
    } catch (const UsageError& error) {
      throw UsageError(concat(path, ":", line_number, ": ", error.what()));
    }
    return true;
  });
}

MetricsFile::MetricsFile(const std::string& path, std::int64_t resumed_step)
    : lines_(open_after_cut(path, resumed_step)) {}

}  // namespace smoe
