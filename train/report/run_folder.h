// The folder that a run writes to, and who may write to it.
//
//   runs/NAME/README.txt       describes the other files
//             config.yaml      the effective configuration
//             tokenizer.json   or tokenizer.model: the tokenizer of the model
//             metrics.jsonl    one line per report (metrics_file.h)
//             report.html      charts of the run (report_page.h)
//             events.out.*     the metrics for TensorBoard (tensorboard_file.h)
//             log.txt          the console output
//             logs/            the output of each rank, under `smoe launch` (rank_output.h)
//             profile/         step-00000103/ ... of profile.every (train/run_profiler.h)
//             checkpoints/     step-00000120/ ... (checkpoint_store.h)
//             run.lock         locked by the process that writes the folder
#pragma once
#include <string>
#include <string_view>
#include <vector>

#include "core/system/file.h"
#include "train/config/run_paths.h"
#include "train/tokenizer/tokenizer.h"

namespace smoe {

/// Whether another process writes the run in `folder`.
bool is_written(const std::string& folder);
/// Throws: UsageError when another process writes the run in `folder`.
void check_not_written(const std::string& folder);

/// A run's folder, locked by the process that writes it.
class RunFolder : public RunPaths {
 public:
  /// Creates the folder, or claims an existing one, for the lifetime of the object. `resume` is
  /// checkpoint.resume. A folder that contains a run is claimed only to resume that run: with
  /// "auto", with the path of a checkpoint in it, or with that of the checkpoint of another run
  /// that it branched from. Throws: UsageError, and the folder is unchanged, when another process
  /// writes to it or when the run in it would be overwritten; SystemError.
  RunFolder(const std::string& folder, const std::string& resume);
  /// Removes the folder if the constructor created it and no run began in it.
  ~RunFolder();
  RunFolder(const RunFolder&) = delete;
  RunFolder& operator=(const RunFolder&) = delete;

  /// Warnings about guarantees that the file system cannot give, one line each.
  const std::vector<std::string>& warnings() const { return warnings_; }
  /// Whether the path still leads to the folder that is locked, which another process may have
  /// removed, moved or replaced.
  bool is_in_place() const;
  /// Stores the effective configuration, which begins the run. To be called when nothing can refuse
  /// the start any more, so that a refused start changes nothing.
  void write_config(std::string_view yaml);
  /// Stores the tokenizer's file, so that the trained model can be used without its token set, and
  /// removes that of another kind.
  void write_tokenizer(const Tokenizer& tokenizer) const;
  /// Stores a README.txt that describes each file and its use.
  void write_readme() const;

 private:
  void claim();
  void check_may_write(const std::string& resume) const;
  bool branched_from(const std::string& resume) const;
  bool holds_run() const;

  bool is_to_remove_ = false;  // by the destructor
  File lock_;
  std::vector<std::string> warnings_;
};

}  // namespace smoe
