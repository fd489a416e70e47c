// Paths in a run's folder; train/report/run_folder.h documents the files.
#pragma once
#include <optional>
#include <string>

#include "core/system/digest.h"

namespace smoe {

/// Paths in a run's folder.
class RunPaths {
 public:
  explicit RunPaths(std::string path) : path_(std::move(path)) {}

  const std::string& path() const { return path_; }
  std::string config_path() const { return path_ + "/config.yaml"; }
  /// The tokenizer's file, whose name depends on its kind; of both kinds, when an earlier start
  /// left one, that with this digest. Empty: there is none.
  /// Throws: UsageError when no file has the digest, or several exist and none is given;
  /// SystemError.
  std::string tokenizer_path(const std::optional<Digest>& wanted = {}) const;
  std::string metrics_path() const { return path_ + "/metrics.jsonl"; }
  std::string report_path() const { return path_ + "/report.html"; }
  std::string log_path() const { return path_ + "/log.txt"; }
  std::string logs_path() const { return path_ + "/logs"; }
  std::string profiles_path() const { return path_ + "/profile"; }
  std::string checkpoints_path() const { return path_ + "/checkpoints"; }

 private:
  std::string path_;
};

}  // namespace smoe
