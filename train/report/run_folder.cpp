#include "train/report/run_folder.h"

#include <unistd.h>

#include "core/base/check.h"
#include "core/system/folder.h"
#include "train/config/run_paths.h"

namespace smoe {

RunFolder::RunFolder(const std::string& folder, const std::string& resume) : RunPaths(folder) {
  const std::string parent = parent_of(path());
  SMOE_CHECK(kind_of(parent) != PathKind::file, "run.dir: must name a folder; ", parent,
             " is a file");
  if (kind_of(path()) == PathKind::none) {
    make_folders(path());
    sync_folder(parent);
    is_to_remove_ = true;
  }
  claim();
  check_may_write(resume);
}

RunFolder::~RunFolder() {
  if (!is_to_remove_) return;
  try {
    remove_folder(path());
  } catch (const SystemError&) {  // an empty folder does no harm
  }
}

void RunFolder::claim() {
  lock_ = File::open_append(path() + "/run.lock");
  const LockResult result = lock_.try_lock();
  if (result == LockResult::held) {
    char holder[24];
    const std::int64_t size = lock_.read_some_at(0, holder, sizeof holder);
    throw UsageError(concat(path(), ": process ", std::string(holder, size),
                            " writes this run; wait for it, or choose another run.name"));
  }
  if (result == LockResult::unsupported)
    warnings_.push_back(concat(path(),
                               ": the file system does not support locks (flock); make sure ",
                               "that no other process writes this run"));
  if (!sync_folder(path()))
    warnings_.push_back(concat(path(),
                               ": the file system cannot sync folders; a power failure may ",
                               "lose the newest checkpoints"));
  lock_.resize(0);
  lock_.append(std::to_string(::getpid()));
}

void RunFolder::check_may_write(const std::string& resume) const {
  if (resume == "auto" || !holds_run()) return;
  SMOE_CHECK(resume != "none", path(),
             ": holds a run that checkpoint.resume=none would overwrite; ",
             "choose another run.name, remove the folder, or go on with checkpoint.resume=auto");
  SMOE_CHECK(is_same_path(parent_of(resume), checkpoints_path()), path(),
             ": holds a run that checkpoint.resume=", resume, " is no part of; ",
             "choose another run.name, or go on with checkpoint.resume=auto");
}

bool RunFolder::holds_run() const {
  if (kind_of(metrics_path()) != PathKind::none) return true;
  return kind_of(checkpoints_path()) != PathKind::none && !list_folder(checkpoints_path()).empty();
}

void RunFolder::write_config(std::string_view yaml) {
  is_to_remove_ = false;
  write_file_atomically(config_path(), yaml);
}

void RunFolder::write_readme() const {
  std::string text = "A training run of smoe.\n\n";
  const auto add = [&](std::string name, const std::string& meaning) {
    name.resize(18, ' ');
    text += name + meaning + "\n";
  };
  add("report.html", "the run at a glance, kept up to date; a browser shows it");
  add("log.txt", "what the console showed");
  add("logs/", "what each rank printed, if smoe launch started it");
  add("metrics.jsonl", "all figures, one JSON object a line");
  add("events.out.*", "the same for TensorBoard, if log.tensorboard is true");
  add("config.yaml", "every key of the configuration, its value and meaning");
  add(name_of_path(tokenizer_path()), "what turns the model's tokens into text");
  add("checkpoints/", "step-N/ holds all that is needed to go on after step N");
  add("run.lock", "held by the process that writes here; of no use afterwards");
  text += "\nFrom where the run was started:\n\n";
  text += "  smoe train " + config_path() + "   # goes on, if steps are left\n";
  text += "  smoe generate " + path() + " --prompt \"Once\"\n";
  write_file_atomically(path() + "/README.txt", text);
}

void RunFolder::write_tokenizer(const Tokenizer& tokenizer) const {
  write_file_atomically(path() + "/" + tokenizer.file_name(), tokenizer.file_bytes());
}

}  // namespace smoe
