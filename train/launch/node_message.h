// What the launchers of several hosts tell each other, one JSON object a message.
#pragma once
#include <string>
#include <vector>

#include "train/launch/rank_failure.h"

namespace smoe {

struct NodeMessage {
  enum class Kind : std::uint8_t {
    joined,  ///< node to first: it is there; `numbers` are its --nnodes and its ranks
    failed,  ///< node to first: a rank failed, with `failure`
    ended,   ///< node to first: all its ranks have ended; `numbers` is the exit code
    left,    ///< node to first: it has heard `finish`
    signal,  ///< both ways: `numbers` is a signal for all ranks
    start,   ///< first to all: start the ranks; `numbers` are the ranks of each node
    stop,    ///< first to all: end your ranks, since some rank failed
    finish,  ///< first to all: the job is over; `numbers` is the exit code; `failure` if it failed
  };

  Kind kind = Kind::joined;
  std::vector<int> numbers = {};
  JobFailure failure = {};
};

std::string to_text(const NodeMessage& message);
/// Trusts nothing. Throws: UsageError for what to_text does not write.
NodeMessage parse_node_message(const std::string& text);

}  // namespace smoe
