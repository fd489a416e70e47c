// What is in a file or folder that smoe reads or writes, as text for people.
#pragma once
#include <string>

namespace smoe {

struct InspectOptions {
  bool is_verified = false;  ///< read everything and compare all digests
  bool is_each = false;      ///< one line for each tensor, also where many are alike
};

/// Configurations, token sets, checkpoints (a folder or its manifest), folders of runs, safetensors
/// files and folders of them, tokenizers. Ends with a line break.
/// Throws: UsageError for anything else, naming what is understood, and for what is damaged;
/// SystemError.
std::string inspect(const std::string& path, const InspectOptions& options = {});

}  // namespace smoe
