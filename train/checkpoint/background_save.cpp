#include "train/checkpoint/background_save.h"

#include <chrono>
#include <utility>

#include "core/base/check.h"

namespace smoe {

BackgroundSave::BackgroundSave(CheckpointStore::Options options, CheckpointStore::Log log)
    : log_(std::move(log)), store_(std::move(options), [this](const std::string& line) {
        const std::lock_guard lock(mutex_);
        lines_.push_back(line);
      }) {}

BackgroundSave::~BackgroundSave() {
  is_ending_ = true;
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

void BackgroundSave::start(const CheckpointHeader& header, const VisitState& visit, int index,
                           int count) {
  wait();
  copy_.take(visit);
  is_done_ = false;
  thread_ = std::thread([this, header, index, count] { run(header, index, count); });
}

// The other writers' threads must not use the communicator, which their training does.
void BackgroundSave::await_files(const std::function<bool()>& are_complete) const {
  constexpr auto kLongest = std::chrono::minutes(30);
  constexpr auto kPause = std::chrono::milliseconds(20);
  const auto start = std::chrono::steady_clock::now();
  while (!are_complete()) {
    const bool is_late = std::chrono::steady_clock::now() - start > kLongest;
    if (is_late || is_ending_)
      throw SystemError("checkpoint: another rank has not written its part; nothing was saved");
    std::this_thread::sleep_for(kPause);
  }
}

void BackgroundSave::run(const CheckpointHeader& header, int index, int count) noexcept {
  std::exception_ptr error;
  try {
    ShardWriters writers{.index = index, .count = count};
    if (index == 0)
      writers.await_others = [this](const auto& are_complete) { await_files(are_complete); };
    store_.save(
        header, [this](StateVisitor& visitor) { copy_.visit(visitor); }, writers);
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
