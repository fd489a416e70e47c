// What is fuzzed: readers of files and messages that nobody vouches for. A reader may refuse an
// input by throwing UsageError or SystemError with one short line. What it accepts must hold to a
// second property, which `require` checks: that it reads back the same, or that all it points to
// lies in the file.
#pragma once
#include <functional>
#include <stdexcept>
#include <string>
#include <vector>

#include "core/base/check.h"

namespace smoe::fuzz {

/// A property that did not hold.
struct Broken : std::logic_error {
  using std::logic_error::logic_error;
};

template <class... Parts>
void require(bool holds, const Parts&... parts) {
  if (!holds) throw Broken(concat(parts...));
}

/// Where a target may write, and the file that none may open, whatever its input says.
struct Playground {
  std::string folder;
  std::string canary;
};

/// Makes `bytes` the content of the file. A new file each time: to overwrite one in place makes
/// ext4 wait for the disk.
void put_file(const std::string& path, const std::string& bytes);

struct Target {
  std::vector<std::string> seeds;  ///< whole inputs, good ones and ones that did harm elsewhere
  std::vector<std::string> dictionary;  ///< pieces that mean something to the reader
  std::function<void(const std::string& input)> read;
  /// Makes lengths and digests fit what mutation left, so that it is read on behind them.
  std::function<std::string(std::string input)> repair = {};
  /// Whether bytes mean something by their place, so that most are to be changed where they are.
  bool is_binary = false;
};

/// The targets, each made in the process that runs it.
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
