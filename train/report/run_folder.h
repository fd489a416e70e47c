// The folder that a run writes to, and the rules of who may write there.
//
//   runs/NAME/README.txt       what the rest is, for people
//             config.yaml      the effective configuration
//             tokenizer.json   or tokenizer.model: what turns its tokens into text
//             metrics.jsonl    one line a report (metrics_file.h)
//             report.html      the run at a glance (report_page.h)
//             events.out.*     the metrics for TensorBoard (tensorboard_file.h)
//             log.txt          what the console showed
//             logs/            what each rank printed, under `smoe launch` (rank_output.h)
//             checkpoints/     step-00000120/ ... (checkpoint_store.h)
//             run.lock         held by the process that writes the folder
#pragma once
#include <string>
#include <string_view>
#include <vector>

#include "core/system/file.h"
#include "train/config/run_paths.h"
#include "train/data/tokenizer.h"

namespace smoe {

/// A run's folder in the hands of the process that writes it.
class RunFolder : public RunPaths {
 public:
  /// Makes the folder, or claims one that is there, for as long as the object lives. `resume` is
  /// `checkpoint.resume`. A folder that holds a run is claimed only to go on with that run: by
  /// "auto", or by the path of a checkpoint in it.
  /// Throws: UsageError, and the folder is as it was, when another process writes it or when the
  /// run in it would be overwritten; SystemError.
  RunFolder(const std::string& folder, const std::string& resume);
  /// Removes the folder again if the constructor made it and no run began in it.
  ~RunFolder();
  RunFolder(const RunFolder&) = delete;
  RunFolder& operator=(const RunFolder&) = delete;

  /// Guarantees that the file system cannot give, one line each.
  const std::vector<std::string>& warnings() const { return warnings_; }
  /// Stores the effective configuration, with which a run begins. To be called once the run is
  /// known to go on with what is here, so that a refused start changes nothing.
  void write_config(std::string_view yaml);
  /// Stores the tokenizer's file, so that the trained model needs no token set.
  void write_tokenizer(const Tokenizer& tokenizer) const;
  /// Stores a README.txt that says what each file here is and how to use it.
  void write_readme() const;

 private:
  void claim();
  void check_may_write(const std::string& resume) const;
  bool holds_run() const;

  bool is_to_remove_ = false;  // by the destructor
  File lock_;
  std::vector<std::string> warnings_;
};

}  // namespace smoe
