// Parses manifest.json as untrusted input.
#pragma once
#include <string>
#include <string_view>

#include "core/base/check.h"
#include "train/checkpoint/manifest.h"

namespace smoe {

/// The manifest is intact, but has another format version than this program's.
struct OtherVersionError : UsageError {
  using UsageError::UsageError;
};

/// Parses the text that manifest_text wrote; `path` names the file in messages. Sizes, offsets,
/// names and nesting depth are all checked: the extents of the result tile each shard exactly, the
/// byte counts of its shapes do not overflow, and each name occurs once.
/// Throws: OtherVersionError; UsageError, one line that names the path, the field and the rule.
Manifest parse_manifest(std::string_view text, const std::string& path);

}  // namespace smoe
