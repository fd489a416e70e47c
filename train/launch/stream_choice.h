// StreamChoice: the streams of ranks that a flag such as --tee selects, in torchrun's syntax.
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

/// "0" none, "1" standard output, "2" standard error, "3" both, of all ranks; or per local rank:
/// "0:3,2:1".
class StreamChoice {
 public:
  /// Selects no stream.
  StreamChoice() = default;
  /// Throws: UsageError, naming `flag`, for other text.
  StreamChoice(const std::string& flag, const std::string& text);

  StreamPair of(int local_rank) const;

 private:
  StreamPair all_;
  std::map<int, StreamPair> some_;
};

}  // namespace smoe
