#include "train/report/run_folder.h"

#include <unistd.h>

#include "core/base/check.h"
#include "core/system/folder.h"
#include "core/system/text.h"
#include "train/config/config.h"

namespace smoe {
namespace {

constexpr const char* kLockName = "/run.lock";

[[noreturn]] void refuse_second_writer(const std::string& folder, const File& lock) {
  char holder[24];
  const std::int64_t size = lock.read_some_at(0, holder, sizeof holder);
  throw UsageError(concat(folder, ": process ", std::string(holder, size),
                          " writes this run; wait for it, or give the run another name"));
}

}  // namespace

bool is_written(const std::string& folder) {
  const std::string path = folder + kLockName;
  return kind_of(path) == PathKind::file && File::open(path).try_lock() == LockResult::held;
}

void check_not_written(const std::string& folder) {
  const std::string path = folder + kLockName;
  if (kind_of(path) != PathKind::file) return;
  File lock = File::open_append(path);
  if (lock.try_lock() == LockResult::held) refuse_second_writer(folder, lock);
}

RunFolder::RunFolder(const std::string& folder, const std::string& resume) : RunPaths(folder) {
  const std::string parent = parent_of(path());
  SMOE_CHECK(kind_of(parent) != PathKind::file, parent,
             ": must be a folder to contain runs; it is a file");
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
  } catch (const std::exception&) {  // an empty folder is harmless
  }
}

void RunFolder::claim() {
  lock_ = File::open_append(path() + kLockName);
  const LockResult result = lock_.try_lock();
  if (result == LockResult::held) refuse_second_writer(path(), lock_);
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
  SMOE_CHECK(resume != "none", path(), ": contains a run that a new run would overwrite; ",
             "resume it, remove the folder, or give the run another name");
  const bool is_own = is_same_path(parent_of(resume), checkpoints_path());
  SMOE_CHECK(is_own || branched_from(resume), path(), ": contains a run that the checkpoint ",
             resume, " does not belong to; ",
             "resume it from its own checkpoints, or give the run another name");
}

// Whether the run in the folder was started with that checkpoint.
bool RunFolder::branched_from(const std::string& resume) const {
  try {
    return kind_of(config_path()) == PathKind::file &&
           load_config(config_path()).checkpoint.resume == resume;
  } catch (const UsageError&) {  // not a configuration
    return false;
  }
}

bool RunFolder::holds_run() const {
  if (kind_of(metrics_path()) != PathKind::none) return true;
  return kind_of(checkpoints_path()) != PathKind::none && !list_folder(checkpoints_path()).empty();
}

bool RunFolder::is_in_place() const {
  return lock_.is_at(lock_.path());
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
  add("report.html", "charts of the run, kept up to date; open it in a browser");
  add("log.txt", "the console output");
  add("logs/", "the output of each rank, if started by smoe launch");
  add("metrics.jsonl", "all metrics, one JSON object per line");
  add("events.out.*", "the same metrics for TensorBoard, if log.tensorboard is true");
  add("config.yaml", "every key of the configuration, its value and meaning");
  add(name_of_path(tokenizer_path()), "the tokenizer of the model");
  add("profile/", "where the time and memory of some steps went, if profile.every is set");
  add("checkpoints/", "step-N/ has everything needed to resume after step N");
  add("run.lock", "locked by the process that writes here; not needed afterwards");
  text += "\nIn the folder in which the run was started:\n\n";
  text += "  smoe train " + shell_word(config_path()) + "   # resumes, if steps are left\n";
  text += "  smoe generate " + shell_word(path()) + " --prompt \"Once\"\n";
  write_file_atomically(path() + "/README.txt", text);
}

void RunFolder::write_tokenizer(const Tokenizer& tokenizer) const {
  write_file_atomically(path() + "/" + tokenizer.file_name(), tokenizer.file_bytes());
  // An earlier start, of which no checkpoint exists, may have left a tokenizer of another kind.
  for (const std::string name : {"tokenizer.json", "tokenizer.model"})
    if (name != tokenizer.file_name()) remove_file(path() + "/" + name);
}

}  // namespace smoe
