// Whether a job that failed is started again.
#pragma once
#include <cstdint>
#include <functional>
#include <string>

namespace smoe {

class RestartPolicy {
 public:
  /// `saved_step`: as in LaunchOptions.
  RestartPolicy(int max_restarts, std::function<std::int64_t()> saved_step)
      : max_restarts_(max_restarts), saved_step_(std::move(saved_step)) {}

  /// To be called before each start of the ranks.
  void starting();

  struct Decision {
    bool restarts = false;
    std::string reason;  ///< for people; empty when no restart was ever wanted
  };
  /// After the ranks ended with `exit_code`, which is not 0. Starting again mends neither a wrong
  /// configuration nor what stops every start before its first checkpoint.
  Decision after_failure(int exit_code);

 private:
  int max_restarts_;
  std::function<std::int64_t()> saved_step_;
  int num_restarts_ = 0;
  std::int64_t step_at_start_ = -1;
};

}  // namespace smoe
