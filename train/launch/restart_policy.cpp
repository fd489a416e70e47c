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
  if (limit() == 0) return {};
  if (exit_code == kUsageError)
    return {false, "not restarted: exit code 2 means invalid usage or configuration"};
  if (num_restarts_ == limit())
    return {false, concat("not restarted: that was restart ", num_restarts_, " of ", limit())};
  const std::int64_t step = saved_step_ ? saved_step_() : -1;
  const bool is_from_scratch = saved_step_ && step < 0;
  if (!max_restarts_ && !is_from_scratch) return {};
  const bool is_first_try = is_from_scratch && !has_restarted_from_scratch_;
  if (saved_step_ && step <= step_at_start_ && !is_first_try)
    return {false, "not restarted: no new checkpoint was saved since the last start"};
  has_restarted_from_scratch_ |= is_from_scratch;
  ++num_restarts_;
  std::string from;
  if (saved_step_)
    from = is_from_scratch ? " from the beginning, since there is no checkpoint yet"
                           : concat(" from the checkpoint of step ", step);
  return {true, concat("restarting all ranks", from, ", restart ", num_restarts_, " of ", limit())};
}

}  // namespace smoe
