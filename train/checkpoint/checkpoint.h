// One checkpoint: a folder with a manifest and shard files (manifest.h). The owner of the state
// enumerates it for a visitor, both to save and to load, so that both use the same names.
#pragma once
#include <functional>
#include <optional>
#include <string>

#include "core/state.h"
#include "core/system/file.h"
#include "train/checkpoint/manifest.h"

namespace smoe {

/// Passes all state of this process to a visitor: the same names, dtypes, shapes and ranges in
/// every call.
using VisitState = std::function<void(StateVisitor&)>;

/// What a checkpoint records besides the state.
struct CheckpointHeader {
  std::int64_t step = 0;       ///< completed optimizer steps
  std::string device = "cpu";  ///< device type; resuming is bit-identical on the same type only
  Digest config{};             ///< of the settings that a resumed run must share
  Digest data{};               ///< of the token set
  std::optional<Digest> tokenizer{};  ///< none: the model has no tokenizer
  std::optional<Digest> base{};       ///< none: the checkpoint is complete
  std::string processor{};            ///< as in the manifest
  std::string config_text{};          ///< the configuration as YAML
  std::optional<ManifestData> sampling{};
};

/// The processes that write one checkpoint together; each writes a shard file with the ranges that
/// it visits, and writer 0 also writes whole tensors, numbers and the manifest.
struct ShardWriters {
  int index = 0;  ///< of this process
  int count = 1;
  /// Returns once all writers have called it or, for writer 0, once `are_complete()`, which looks
  /// for the other writers' files.
  std::function<void(const std::function<bool()>& are_complete)> await_others = [](const auto&) {};
};

/// Writes the state to the folder `path`: shard files, then the manifest, all durable when writer 0
/// returns. A single writer makes the folder, which must not exist; several find it made. The
/// caller makes the folder's own name durable. All writers call this function, and together visit
/// every element of each tensor once; writers other than 0 return when their shards are durable.
/// Throws: SystemError; UsageError for a name that is invalid or occurs twice; what `visit` and
/// `await_others` throw. The folder is incomplete then.
void write_checkpoint(const std::string& path, const CheckpointHeader& header,
                      const VisitState& visit, const ShardWriters& writers = {});

/// A checkpoint on disk, open for reading. The manifest is checked on opening, each tensor when it
/// is read.
class Checkpoint {
 public:
  /// Throws: UsageError, one line that names the file and the problem, for anything other than a
  /// checkpoint as written by write_checkpoint; SystemError when reading fails.
  explicit Checkpoint(const std::string& path);

  const std::string& path() const { return path_; }
  const Manifest& manifest() const { return manifest_; }
  /// Size of all shard files.
  std::int64_t bytes() const;

  /// Reads every tensor and compares its digest. Throws: UsageError naming file and tensor;
  /// SystemError.
  void verify() const;

  /// Throws: UsageError naming `path` unless the configuration in that file, whose digest is
  /// `config`, is the one that was trained with, or `is_same_run` says that it is one that the run
  /// changed to.
  void check_config(const std::string& path, const Digest& config, bool is_same_run) const;

  /// Loads the state in place: of each tensor the ranges that are visited, whatever ranges it was
  /// written in. State and checkpoint must have the same names, shapes and dtypes, except that f32
  /// and bf16 are converted to each other; otherwise nothing is changed.
  /// Throws: UsageError naming the differences; as verify, when the files have changed since they
  /// were opened, and the state is then partially loaded.
  void load(const VisitState& visit) const { load(visit, Coverage::all); }
  /// As load, for a part of the state, such as a model without its optimizer: the checkpoint may
  /// contain additional names.
  void load_part(const VisitState& visit) const { load(visit, Coverage::part); }

 private:
  enum class Coverage { all, part };
  void load(const VisitState& visit, Coverage coverage) const;

  std::string path_;
  Manifest manifest_;
  std::vector<File> shards_;
};

}  // namespace smoe
