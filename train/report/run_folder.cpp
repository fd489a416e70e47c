#include "train/report/run_folder.h"

#include <unistd.h>

#include "core/base/check.h"

namespace smoe {

std::string RunPaths::tokenizer_path() const {
  const std::string model = path_ + "/tokenizer.model";
  return kind_of(model) == PathKind::file ? model : path_ + "/tokenizer.json";
}

RunFolder::RunFolder(const std::string& folder, const std::string& resume) : RunPaths(folder) {
  if (kind_of(path()) == PathKind::none) {
    make_folders(path());
    sync_folder(parent_of(path()));
  }
  claim();
  check_may_write(resume);
}

void RunFolder::claim() {
  lock_ = File::open_append(path() + "/run.lock");
  if (!lock_.try_lock()) {
    char holder[24];
    const std::int64_t size = lock_.read_some_at(0, holder, sizeof holder);
    throw UsageError(concat(path(), ": process ", std::string(holder, size),
                            " writes this run; wait for it, or choose another run.name"));
  }
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

void RunFolder::write_config(std::string_view yaml) const {
  write_file_atomically(config_path(), yaml);
}

void RunFolder::write_tokenizer(const Tokenizer& tokenizer) const {
  write_file_atomically(path() + "/" + tokenizer.file_name(), tokenizer.file_bytes());
}

}  // namespace smoe
