// Describes the contents of files and folders that smoe reads or writes, as text for people.
#pragma once
#include <string>

namespace smoe {

struct InspectOptions {
  bool is_verified = false;  ///< read everything and verify all digests
  bool is_each = false;      ///< one line per tensor, without grouping
};

/// Describes a configuration, token set, checkpoint (a folder or its manifest), run folder,
/// safetensors file, folder of these, or tokenizer. Ends with a line break.
/// Throws: UsageError for other files, listing the supported ones, and for damaged files;
/// SystemError.
std::string inspect(const std::string& path, const InspectOptions& options = {});

}  // namespace smoe
