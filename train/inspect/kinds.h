// One function per kind of file or folder that inspect() supports.
#pragma once
#include "train/inspect/inspect.h"

namespace smoe {

std::string inspect_config(const std::string& path);
std::string inspect_token_set(const std::string& path, const InspectOptions& options);
/// `folder` holds manifest.json.
std::string inspect_checkpoint(const std::string& folder, const InspectOptions& options);
/// `folder` holds config.yaml.
std::string inspect_run(const std::string& folder, const InspectOptions& options);
std::string inspect_safetensors(const std::string& path, const InspectOptions& options);
std::string inspect_tokenizer(const std::string& path);

}  // namespace smoe
