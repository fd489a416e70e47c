#include "train/checkpoint/background_save.h"

#include <utility>

namespace smoe {

BackgroundSave::BackgroundSave(CheckpointStore::Options options, CheckpointStore::Log log)
    : log_(std::move(log)), store_(std::move(options), [this](const std::string& line) {
        const std::lock_guard lock(mutex_);
        lines_.push_back(line);
      }) {}

BackgroundSave::~BackgroundSave() {
  try {
    wait();
  } catch (const std::exception& error) {
    log_or_ignore(error.what());
  }
}

void BackgroundSave::log_or_ignore(const std::string& line) noexcept {
  try {
    log_(line);
  } catch (const std::exception&) {  // log.txt cannot be written either, as on a full disk
  }
}

void BackgroundSave::start(const CheckpointHeader& header, const VisitState& visit) {
  wait();
  copy_.take(visit);
  is_done_ = false;
  thread_ = std::thread([this, header] { run(header); });
}

void BackgroundSave::run(const CheckpointHeader& header) noexcept {
  std::exception_ptr error;
  try {
    store_.save(header, [this](StateVisitor& visitor) { copy_.visit(visitor); });
  } catch (...) {
    error = std::current_exception();
  }
  const std::lock_guard lock(mutex_);
  error_ = error;
  is_done_ = true;
}

bool BackgroundSave::flush_log() {
  std::vector<std::string> lines;
  bool is_done = false;
  {
    const std::lock_guard lock(mutex_);
    lines.swap(lines_);
    is_done = is_done_;
  }
  for (const std::string& line : lines) log_(line);
  return is_done;
}

void BackgroundSave::poll() {
  if (flush_log()) wait();
}

void BackgroundSave::wait() {
  if (!thread_.joinable()) return;
  thread_.join();
  copy_.clear();
  flush_log();
  if (error_) std::rethrow_exception(std::exchange(error_, nullptr));
}

}  // namespace smoe
