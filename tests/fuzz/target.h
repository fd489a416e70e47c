// Fuzz targets: parsers of untrusted files and messages. A parser may refuse an input by throwing
// UsageError or SystemError with one short line. If it accepts the input, the target checks another
// property with `require`, such as an equal result after a round trip, or offsets within the file.
#pragma once
#include <functional>
#include <stdexcept>
#include <string>
#include <vector>

#include "core/base/check.h"

namespace smoe::fuzz {

/// A violated property.
struct Broken : std::logic_error {
  using std::logic_error::logic_error;
};

template <class... Parts>
void require(bool holds, const Parts&... parts) {
  if (!holds) throw Broken(concat(parts...));
}

/// Where a target may write, and a file that it must never open.
struct Playground {
  std::string folder;
  std::string canary;
};

/// Replaces the file with `bytes`. Creates a new file each time, since overwriting one makes ext4
/// wait for the disk.
void put_file(const std::string& path, const std::string& bytes);

struct Target {
  std::vector<std::string> seeds;       ///< complete inputs: valid ones and known attacks
  std::vector<std::string> dictionary;  ///< tokens of the format
  std::function<void(const std::string& input)> read;
  /// Corrects lengths and digests after mutation, so that parsing continues past them.
  std::function<std::string(std::string input)> repair = {};
  /// Whether the format is positional, so that most mutations must keep offsets.
  bool is_binary = false;
};

/// The targets, each constructed in the process that runs it.
Target config_target(const Playground&);
Target hdf5_target(const Playground&);
Target inspect_target(const Playground&);
Target manifest_target(const Playground&);
Target metrics_target(const Playground&);
Target mixtral_target(const Playground&);
Target rendezvous_target(const Playground&);
Target rendezvous_server_target(const Playground&);
Target safetensors_target(const Playground&);
Target token_set_target(const Playground&);
Target tokenizer_target(const Playground&);
Target tokenizer_pieces_target(const Playground&);
Target weight_index_target(const Playground&);

}  // namespace smoe::fuzz
