#include "train/inspect/inspect.h"

#include <cstring>

#include "core/base/check.h"
#include "core/system/file.h"
#include "core/system/folder.h"
#include "train/inspect/kinds.h"

namespace smoe {
namespace {

constexpr std::int64_t kHeadBytes = 512;

std::string head_of(const std::string& path) {
  std::string head(kHeadBytes, '\0');
  head.resize(File::open(path).read_some_at(0, head.data(), kHeadBytes));
  return head;
}

bool is_safetensors(const std::string& path, const std::string& head) {
  return path.ends_with(".safetensors") || (head.size() > 8 && head[8] == '{' && head[7] == '\0');
}

bool is_token_set(const std::string& path, const std::string& head) {
  return head.starts_with("smoe token set") || path.ends_with(".h5") ||
         head.find("\x89HDF\r\n") != std::string::npos;
}

std::string inspect_folder(const std::string& path, const InspectOptions& options) {
  if (kind_of(path + "/manifest.json") == PathKind::file) return inspect_checkpoint(path, options);
  if (kind_of(path + "/config.yaml") == PathKind::file) return inspect_run(path, options);
  std::string text;
  for (const FolderEntry& entry : list_folder(path))
    if (entry.kind == PathKind::file && entry.name.ends_with(".safetensors"))
      text +=
          concat(text.empty() ? "" : "\n", inspect_safetensors(path + "/" + entry.name, options));
  SMOE_CHECK(!text.empty(), path,
             ": unknown kind of folder; supported are runs (with config.yaml), checkpoints (with "
             "manifest.json) and folders of *.safetensors");
  return text;
}

}  // namespace

std::string inspect(const std::string& path, const InspectOptions& options) {
  if (kind_of(path) == PathKind::folder) return inspect_folder(path, options);
  const std::string head = head_of(path), name = name_of_path(path);
  if (name == "manifest.json") return inspect_checkpoint(parent_of(path), options);
  if (is_token_set(path, head)) return inspect_token_set(path, options);
  if (is_safetensors(path, head)) return inspect_safetensors(path, options);
  if (name.ends_with(".yaml") || name.ends_with(".yml")) return inspect_config(path);
  if (name.ends_with(".model") || name == "tokenizer.json") return inspect_tokenizer(path);
  throw UsageError(
      concat(path,
             ": unknown kind of file; supported are configurations (*.yaml), token sets (*.h5), "
             "checkpoints (manifest.json or their folder), *.safetensors, and tokenizers "
             "(*.model, tokenizer.json)"));
}

}  // namespace smoe
