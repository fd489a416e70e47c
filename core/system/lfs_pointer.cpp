#include "core/system/lfs_pointer.h"

#include "core/base/check.h"

namespace smoe {
namespace {

constexpr std::string_view kPointer = "version https://git-lfs";

}  // namespace

void check_is_downloaded(std::string_view beginning, const std::string& path) {
  SMOE_CHECK(!beginning.starts_with(kPointer), path,
             ": is a Git LFS pointer, not the file itself; fetch it with `git lfs pull`");
}

void check_is_downloaded(const File& file) {
  char begin[kPointer.size()];
  const std::int64_t bytes = file.read_some_at(0, begin, sizeof begin);
  check_is_downloaded(std::string_view(begin, static_cast<std::size_t>(bytes)), file.path());
}

}  // namespace smoe
