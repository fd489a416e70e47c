#include "train/data/text_file.h"

#include <set>

#include "core/base/check.h"
#include "core/system/file.h"
#include "core/system/folder.h"

namespace smoe {
namespace {

bool is_hidden(const FolderEntry& entry) {
  return entry.name.front() == '.';
}

using RealPaths = std::set<std::string>;

void list_files_of(const std::string& folder, RealPaths& seen, std::vector<TextFile>& files) {
  for (const FolderEntry& entry : list_folder(folder)) {
    if (is_hidden(entry)) continue;
    if (entry.kind != PathKind::file && entry.kind != PathKind::folder) continue;
    const std::string path = folder + (folder.back() == '/' ? "" : "/") + entry.name;
    std::string real_path = absolute_path(path);
    if (!seen.insert(real_path).second) continue;
    if (entry.kind == PathKind::folder) list_files_of(path, seen, files);
    if (entry.kind == PathKind::file)
      files.push_back({path, path, std::move(real_path), false,
                       entry.is_link ? File::open(path).size() : entry.bytes});
  }
}

}  // namespace

std::vector<TextFile> list_text_files(const std::vector<std::string>& inputs,
                                      const std::string& copy_of_standard_input) {
  std::vector<TextFile> files;
  RealPaths seen;
  for (const std::string& input : inputs) {
    const bool is_standard = input == kStandardInput && !copy_of_standard_input.empty();
    const std::string& path = is_standard ? copy_of_standard_input : input;
    const PathKind kind = kind_of(path);
    SMOE_CHECK(kind != PathKind::none, input, ": no such file or folder");
    std::string real_path = absolute_path(path);
    SMOE_CHECK(seen.insert(real_path).second, input, ": given twice");
    if (kind == PathKind::folder) {
      list_files_of(input, seen, files);
    } else {
      files.push_back({path, is_standard ? "standard input" : input, std::move(real_path), true,
                       File::open(path).size()});
    }
  }
  SMOE_CHECK(!files.empty(), inputs.empty() ? "no input" : inputs.front(), ": no files in it");
  return files;
}

}  // namespace smoe
