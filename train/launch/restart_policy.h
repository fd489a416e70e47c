// RestartPolicy: whether a failed job is restarted.
#pragma once
#include <cstdint>
#include <functional>
#include <optional>
#include <string>

namespace smoe {

class RestartPolicy {
 public:
  /// As in LaunchOptions.
  RestartPolicy(std::optional<int> max_restarts, std::function<std::int64_t()> saved_step)
      : max_restarts_(max_restarts), saved_step_(std::move(saved_step)) {}

  /// To be called before each start of the ranks.
  void before_start();

  struct Decision {
    bool restarts = false;
    std::string reason;  ///< for the user; empty when restarts are disabled
  };
  /// Decides after the ranks exited with `exit_code`, which is not 0. A restart cannot fix an
  /// invalid configuration or a failure that recurs before every next checkpoint; before the first
  /// checkpoint, one restart shows whether it recurs.
  Decision after_failure(int exit_code);

 private:
  int limit() const { return max_restarts_.value_or(saved_step_ ? 1 : 0); }

  std::optional<int> max_restarts_;
  std::function<std::int64_t()> saved_step_;
  int num_restarts_ = 0;
  std::int64_t step_at_start_ = -1;
  bool has_restarted_from_scratch_ = false;
};

}  // namespace smoe
