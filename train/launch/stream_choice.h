// Which ranks' streams a flag such as --tee means, in torchrun's spelling.
#pragma once
#include <cstdint>
#include <map>
#include <string>

namespace smoe {

/// Streams of one rank.
struct StreamPair {
  bool output = false;
  bool error = false;
};

/// "0" none, "1" standard output, "2" standard error, "3" both, of all ranks; or of some, by their
/// rank on this host: "0:3,2:1".
class StreamChoice {
 public:
  /// None.
  StreamChoice() = default;
  /// Throws: UsageError, naming `flag`, for any other text.
  StreamChoice(const std::string& flag, const std::string& text);

  StreamPair of(int local_rank) const;

 private:
  StreamPair all_;
  std::map<int, StreamPair> some_;
};

}  // namespace smoe
