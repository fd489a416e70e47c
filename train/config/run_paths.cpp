#include "train/config/run_paths.h"

#include "core/system/folder.h"

namespace smoe {

std::string RunPaths::tokenizer_path() const {
  const std::string model = path_ + "/tokenizer.model";
  return kind_of(model) == PathKind::file ? model : path_ + "/tokenizer.json";
}

}  // namespace smoe
