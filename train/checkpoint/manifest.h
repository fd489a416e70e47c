// The manifest of a checkpoint: what is in its shard files, and every number that is no tensor.
//
// manifest.json is one JSON object, format version 1:
//   "format": "smoe-checkpoint", "version": 1, "step", "world_size", "build", "device",
//   "config_digest", "data_digest": 32 hexadecimal digits each,
//   "integers": {name: integer}, "reals": {name: "decimal that reads back to the same bits"},
//   "shards": [{"file": "shard-00000.bin", "bytes", "tensors":
//               [{"name", "dtype", "shape", "offset", "bytes", "digest"}, ...]}, ...],
//   "manifest_digest": digest of the file's bytes before this line
// The tensors of a shard lie in the file in the order of the table, row-major and little-endian,
// without a gap from its first byte to its last, so that every byte is covered by a digest.
#pragma once
#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "core/base/dtype.h"
#include "core/shape.h"
#include "core/system/digest.h"

namespace smoe {

struct ManifestTensor {
  std::string name;
  DType dtype = DType::f32;
  Shape shape;
  std::int64_t offset = 0;  ///< bytes from the shard file's start
  std::int64_t bytes = 0;
  Digest digest;  ///< of these bytes
};

struct ManifestShard {
  std::string file;  ///< shard_name(index)
  std::int64_t bytes = 0;
  std::vector<ManifestTensor> tensors;
};

struct Manifest {
  std::int64_t step = 0;  ///< optimizer steps done
  std::int64_t world_size = 1;
  std::string build;   ///< program version and compiler
  std::string device;  ///< device type the run trained on: "cpu"
  Digest config_digest;
  Digest data_digest;
  std::map<std::string, std::int64_t> integers;
  std::map<std::string, double> reals;
  std::vector<ManifestShard> shards;
};

inline constexpr std::string_view kManifestFormat = "smoe-checkpoint";
inline constexpr std::int64_t kManifestVersion = 1;
inline constexpr std::int64_t kMaxManifestBytes = std::int64_t{64} << 20;

/// "shard-00000.bin", the only names a manifest may give its files.
std::string shard_name(std::int64_t index);

/// Whether a piece of state may be called so: 1 to 256 of A-Z a-z 0-9 . _ / -
bool is_state_name(std::string_view name);

/// The text of manifest.json, digest included.
std::string manifest_text(const Manifest& manifest);

/// The end of manifest.json: the digest of all bytes before it, and the closing brace.
std::string manifest_seal(Digest digest);

/// Reads what manifest_text wrote; `path` stands for the file in messages. Trusts nothing: sizes,
/// offsets, names and nesting are all checked, so that a result has extents that tile each shard
/// exactly, shapes whose bytes do not overflow, and names that occur once.
/// Throws: UsageError, one line that names the path, the place in it and the rule.
Manifest parse_manifest(std::string_view text, const std::string& path);

}  // namespace smoe
