#include "train/config/run_paths.h"

#include "core/base/check.h"
#include "core/system/file.h"
#include "core/system/folder.h"

namespace smoe {
namespace {

constexpr const char* kTokenizerNames[] = {"/tokenizer.model", "/tokenizer.json"};
constexpr std::int64_t kMaxBytes = std::int64_t{64} << 20;  // larger files are not tokenizers

}  // namespace

std::string RunPaths::tokenizer_path(const std::optional<Digest>& wanted) const {
  std::string found;
  for (const std::string name : kTokenizerNames) {
    const std::string file = path_ + name;
    if (kind_of(file) != PathKind::file) continue;
    if (wanted && digest_of(read_file(file, kMaxBytes)) == *wanted) return file;
    SMOE_CHECK(
        wanted || found.empty(), path_,
        ": has a tokenizer.model and a tokenizer.json; remove the one that the model was not "
        "trained with");
    found = file;
  }
  SMOE_CHECK(!wanted || found.empty(), found,
             ": is not the tokenizer that the model was trained with; restore that one");
  return found;
}

}  // namespace smoe
