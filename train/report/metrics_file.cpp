#include "train/report/metrics_file.h"

#include <string_view>

#include "core/base/check.h"
#include "core/system/folder.h"

namespace smoe {
namespace {

/// Longer than any line written: enough for 500 experts in each of 1,000 layers.
constexpr std::size_t kMaxLine = std::size_t{1} << 22;

/// Calls take(line) for the file's lines, without their newlines, until it returns false, a line is
/// too long, or no complete line is left. Returns the size in bytes of the lines taken.
template <class Take>
std::int64_t for_each_line(const File& file, Take&& take) {
  std::string unread;  // the bytes from offset `taken`
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

/// Opens the file after removing the lines that a resumed run will write again.
LineWriter open_truncated(const std::string& path, std::int64_t resumed_step) {
  if (kind_of(path) != PathKind::none) {
    File file = File::open_append(path);
    const std::int64_t kept = for_each_line(file, [&](std::string_view line) {
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
  for_each_line(file, [&](std::string_view line) {
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
    : lines_(open_truncated(path, resumed_step)) {}

}  // namespace smoe
