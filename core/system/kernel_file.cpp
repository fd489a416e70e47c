#include "core/system/kernel_file.h"

#include <algorithm>
#include <sstream>

#include "core/base/check.h"
#include "core/system/file.h"
#include "core/system/folder.h"

namespace smoe {

std::string read_kernel_file(const std::string& path) {
  try {
    if (kind_of(path) != PathKind::file) return "";
    std::string text(4096, '\0');
    text.resize(static_cast<std::size_t>(
        File::open(path).read_some_at(0, text.data(), static_cast<std::int64_t>(text.size()))));
    return text;
  } catch (const SystemError&) {
    return "";
  }
}

std::int64_t available_memory_bytes(const std::string& meminfo_path,
                                    const std::string& group_folder) {
  std::int64_t available = 0;
  std::istringstream lines(read_kernel_file(meminfo_path));
  for (std::string name; lines >> name; lines.ignore(4096, '\n'))
    if (name == "MemAvailable:" && lines >> available) available *= 1024;
  std::istringstream limit_file(read_kernel_file(group_folder + "/memory.max"));
  std::istringstream used_file(read_kernel_file(group_folder + "/memory.current"));
  std::int64_t limit = 0, used = 0;  // "max": no limit
  if (limit_file >> limit && used_file >> used)
    available = std::min(available, std::max<std::int64_t>(limit - used, 0));
  return available;
}

}  // namespace smoe
