// Parses manifest.json as untrusted input.
#pragma once
#include <string>
#include <string_view>

#include "core/base/check.h"
#include "train/checkpoint/manifest.h"

namespace smoe {

/// The manifest is intact, but of a later format version than this program's.
struct OtherVersionError : UsageError {
  using UsageError::UsageError;
};

/// Whether a manifest lists whole tensors, or only what one writer has of them.
enum class ManifestCoverage : std::uint8_t { whole, part };

/// Parses the text that manifest_text wrote, of this version or an earlier one; `path` names the
/// file in messages. Sizes, offsets, names and nesting depth are all checked: the extents of the
/// result tile each shard exactly, the byte counts of its shapes do not overflow, and the entries
/// of each tensor hold each of its elements once. Throws: OtherVersionError; UsageError, one line
/// that names the path, the field and the rule.
Manifest parse_manifest(std::string_view text, const std::string& path,
                        ManifestCoverage coverage = ManifestCoverage::whole);

}  // namespace smoe
