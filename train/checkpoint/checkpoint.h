// One checkpoint: a folder with a manifest and shard files (manifest.h). State goes in and comes
// out through a visit of whoever owns it, so both ways name the same things.
#pragma once
#include <functional>
#include <string>

#include "core/state.h"
#include "core/system/file.h"
#include "train/checkpoint/manifest.h"

namespace smoe {

/// Shows all state to a visitor: the same names, dtypes and shapes each time.
using VisitState = std::function<void(StateVisitor&)>;

/// What a checkpoint says besides the state.
struct CheckpointHeader {
  std::int64_t step = 0;       ///< optimizer steps done
  std::string device = "cpu";  ///< device type; a resumed run is bitwise equal on the same one
  Digest config{};             ///< of the settings a resumed run must share
  Digest data{};               ///< of the token set
};

/// Who write one checkpoint together: `count` processes, each a shard file with its share of the
/// tensors, of which number 0 is the first.
struct ShardWriters {
  int index = 0;
  int count = 1;
  std::function<void()> meet = [] {};  ///< returns when all of them have called it
};

/// Writes the state to a new folder `path`: shard files, then manifest, all durable in the folder
/// when it returns. The folder's own name is the caller's to make durable. All writers call it, and
/// see the same state; of those after the first it returns when their shards are durable.
/// Throws: SystemError; UsageError for a name that is not allowed or occurs twice; what visit and
/// meet throw. The folder is then incomplete.
void write_checkpoint(const std::string& path, const CheckpointHeader& header,
                      const VisitState& visit, const ShardWriters& writers = {});

/// A checkpoint on disk, open for reading. Its manifest is checked; tensors are, when they are
/// read.
class Checkpoint {
 public:
  /// Throws: UsageError, one line that names the file and what is wrong with it, for anything that
  /// is not a checkpoint as write_checkpoint leaves it; SystemError when reading fails.
  explicit Checkpoint(const std::string& path);

  const std::string& path() const { return path_; }
  const Manifest& manifest() const { return manifest_; }
  /// Of all shard files.
  std::int64_t bytes() const;

  /// Reads every tensor and compares its digest. Throws: UsageError naming file and tensor;
  /// SystemError.
  void verify() const;

  /// Puts the state back, in place. Every name the state has must be in the checkpoint, and the
  /// other way round, with equal dtypes and shapes; otherwise nothing is changed.
  /// Throws: UsageError naming what differs; as verify, when the files have changed since, and then
  /// the state is half loaded.
  void load(const VisitState& visit) const { load(visit, Coverage::all); }
  /// As load, for a part of the state, such as a model without its optimizer: the checkpoint may
  /// hold more than is asked for.
  void load_part(const VisitState& visit) const { load(visit, Coverage::part); }

 private:
  enum class Coverage { all, part };
  void load(const VisitState& visit, Coverage coverage) const;

  std::string path_;
  Manifest manifest_;
  std::vector<File> shards_;
};

}  // namespace smoe
