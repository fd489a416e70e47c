#include "train/launch/rank_log.h"

#include "core/base/check.h"
#include "core/system/folder.h"

namespace smoe {

RotatingLog::RotatingLog(std::string path, std::int64_t max_bytes)
    : path_(std::move(path)), max_bytes_(max_bytes) {
  SMOE_CHECK(max_bytes >= 1, "log: max_bytes must be positive; got ", max_bytes);
  if (path_.empty()) return;
  file_ = File::open_append(path_);
  bytes_ = file_.size();
}

void RotatingLog::write(std::string_view lines) {
  if (!file_.is_open() || lines.empty()) return;
  const auto bytes = static_cast<std::int64_t>(lines.size());
  try {
    if (bytes_ > 0 && bytes_ + bytes > max_bytes_) rotate();
    file_.append(lines);
    bytes_ += bytes;
  } catch (const SystemError& error) {
    error_ = error.what();
    file_ = File();
  }
}

void RotatingLog::rotate() {
  file_.close();
  for (int i = kNumOldLogs; i > 0; --i) {
    const std::string from = i == 1 ? path_ : concat(path_, ".", i - 1);
    if (kind_of(from) == PathKind::file) rename_path(from, concat(path_, ".", i));
  }
  file_ = File::create(path_);
  bytes_ = 0;
}

void LastLines::add(std::string_view line) {
  if (line.empty()) return;
  if (lines_.size() == kMaxLines) lines_.pop_front();
  lines_.emplace_back(line.substr(0, kMaxLineBytes));
}

}  // namespace smoe
