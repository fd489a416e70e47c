#include "train/launch/restart_policy.h"

#include "core/base/check.h"

namespace smoe {
namespace {

constexpr int kWrongUsage = 2;  // exit code of every command of smoe

}  // namespace

void RestartPolicy::starting() {
  if (saved_step_) step_at_start_ = saved_step_();
}

RestartPolicy::Decision RestartPolicy::after_failure(int exit_code) {
  if (max_restarts_ == 0) return {};
  if (exit_code == kWrongUsage)
    return {false, "not started again: exit code 2 means wrong usage or configuration"};
  if (num_restarts_ == max_restarts_)
    return {false,
            concat("not started again: that was restart ", num_restarts_, " of ", max_restarts_)};
  const std::int64_t step = saved_step_ ? saved_step_() : -1;
  if (saved_step_ && step <= step_at_start_)
    return {false, "not started again: no new checkpoint was saved since the last start"};
  ++num_restarts_;
  return {true, concat("starting all ranks again",
                       saved_step_ ? concat(" from the checkpoint of step ", step) : "",
                       ", restart ", num_restarts_, " of ", max_restarts_)};
}

}  // namespace smoe
