// Repositories that are cloned without Git LFS hold small texts in the place of large files.
#pragma once
#include <string>
#include <string_view>

#include "core/system/file.h"

namespace smoe {

/// Throws: UsageError, naming `path`, when `beginning`, that of a file, is that of such a text.
void check_is_downloaded(std::string_view beginning, const std::string& path);
/// The same of an open file. Throws: also SystemError.
void check_is_downloaded(const File& file);

}  // namespace smoe
