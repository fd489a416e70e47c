#include "train/launch/restart_policy.h"

#include "core/base/check.h"

namespace smoe {
namespace {

constexpr int kUsageError = 2;  // exit code of every command of smoe

}  // namespace

void RestartPolicy::before_start() {
  if (saved_step_) step_at_start_ = saved_step_();
}

RestartPolicy::Decision RestartPolicy::after_failure(int exit_code) {
  if (max_restarts_ == 0) return {};
  if (exit_code == kUsageError)
    return {false, "not restarted: exit code 2 means invalid usage or configuration"};
  if (num_restarts_ == max_restarts_)
    return {false,
            concat("not restarted: that was restart ", num_restarts_, " of ", max_restarts_)};
  const std::int64_t step = saved_step_ ? saved_step_() : -1;
  if (saved_step_ && step <= step_at_start_)
    return {false, "not restarted: no new checkpoint was saved since the last start"};
  ++num_restarts_;
  return {true, concat("restarting all ranks",
                       saved_step_ ? concat(" from the checkpoint of step ", step) : "",
                       ", restart ", num_restarts_, " of ", max_restarts_)};
}

}  // namespace smoe
