// The manifest of a checkpoint: the contents of its shard files, and all scalar state.
//
// manifest.json is one JSON object, format version 2:
//   "format": "smoe-checkpoint", "version": 2, "step", "world_size", "build", "device",
//   "config_digest", "data_digest": 32 hexadecimal digits each,
//   "processor", "tokenizer_digest", "config", "data": optional, absent in checkpoints of earlier
//   versions; "config" is YAML, "data": {"step", "batch", "tokens",
//                                        "sources": [{"name", "digest", "samples"}, ...]},
//   "base_digest": optional: the base whose parameters this checkpoint leaves out,
//   "integers": {name: integer}, "reals": {name: "decimal that reads back to the same bits"},
//   "shards": [{"file": "shard-00000.bin", "bytes", "tensors":
//               [{"name", "dtype", "shape", "begin", "offset", "bytes", "digest"}, ...]}, ...],
//   "manifest_digest": digest of the file's bytes before this line
// An entry is the elements of a tensor from element "begin" on, as many as its bytes hold; all
// entries of one name together are the tensor, each element once, in whatever shards. They are
// stored in the order of the table, row-major and little-endian, without gaps from the first byte
// of the file to the last, so that a digest covers every byte.
// Master weights are f32 or f64, however they are held in memory; moments are also bf16. A
// parameter that is not trained has no moments. Version 1 is without "begin" and "base_digest":
// each entry is a whole tensor.
#pragma once
#include <cstdint>
#include <map>
#include <optional>
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
  std::int64_t offset = 0;  ///< in bytes from the start of the shard file
  std::int64_t bytes = 0;
  Digest digest;           ///< of these bytes
  std::int64_t begin = 0;  ///< first element

  std::int64_t numel() const { return bytes / size_of(dtype); }
};

struct ManifestShard {
  std::string file;  ///< shard_name(index)
  std::int64_t bytes = 0;
  std::vector<ManifestTensor> tensors;
};

/// A training set of the run.
struct ManifestSource {
  std::string name;  ///< empty for a single set
  Digest digest;
  std::int64_t samples = 0;  ///< taken of it before ManifestData::batch
};

/// The data of a run, and since when it has been sampled as at the time of the checkpoint.
struct ManifestData {
  std::int64_t step = 0;    ///< steps done then
  std::int64_t batch = 0;   ///< batches sampled then: those of the steps, and skipped ones
  std::int64_t tokens = 0;  ///< trained on then
  std::vector<ManifestSource> sources;
};

struct Manifest {
  std::int64_t step = 0;  ///< completed optimizer steps
  std::int64_t world_size = 1;
  std::string build;   ///< program version and compiler
  std::string device;  ///< type of the device that the run trained on: "cpu"
  /// What chose the kernels of the step, besides the program: "AMD EPYC 9654, OpenBLAS SkylakeX".
  /// Empty: not recorded.
  std::string processor{};
  Digest config_digest;
  Digest data_digest;
  std::optional<Digest> tokenizer_digest{};  ///< none: no tokenizer, or not recorded
  std::optional<Digest> base_digest{};       ///< none: the checkpoint is complete
  std::string config{};                      ///< as YAML; empty: not recorded
  std::optional<ManifestData> data{};        ///< none: not recorded; sampled as from the start
  std::map<std::string, std::int64_t> integers;
  std::map<std::string, double> reals;
  std::vector<ManifestShard> shards;
};

inline constexpr std::string_view kManifestFormat = "smoe-checkpoint";
inline constexpr std::int64_t kManifestVersion = 2;
inline constexpr std::int64_t kMaxManifestBytes = std::int64_t{64} << 20;

/// "shard-00000.bin": the only file names that a manifest may contain.
std::string shard_name(std::int64_t index);

/// Whether `name` is a valid state name: 1 to 256 of A-Z a-z 0-9 . _ / -
bool is_state_name(std::string_view name);

/// The text of manifest.json, including its digest.
std::string manifest_text(const Manifest& manifest);

/// The last lines of manifest.json: the digest of all preceding bytes, and the closing brace.
std::string manifest_seal(Digest digest);

}  // namespace smoe
