#include "train/huggingface/new_folder.h"

#include "core/base/check.h"
#include "core/system/folder.h"

namespace smoe {

NewFolder::NewFolder(const std::string& path) : path_(path) {
  while (path_.size() > 1 && path_.ends_with('/')) path_.pop_back();
  SMOE_CHECK(kind_of(path_) == PathKind::none, path_, ": exists; remove it or choose another name");
  temporary_path_ = parent_of(path_) + "/.tmp-" + name_of_path(path_);
  make_folders(parent_of(path_));
  remove_folder(temporary_path_);  // what a killed process may have left
  make_new_folder(temporary_path_);
}

NewFolder::~NewFolder() {
  try {
    if (!is_committed_) remove_folder(temporary_path_);
  } catch (const Error&) {  // the error that led here says more
  }
}

void NewFolder::commit() {
  sync_folder(temporary_path_);
  rename_path(temporary_path_, path_);
  is_committed_ = true;
  sync_folder(parent_of(path_));
}

}  // namespace smoe
