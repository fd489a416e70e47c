// Messages between the launchers of several hosts; each is one JSON object.
#pragma once
#include <string>
#include <vector>

#include "train/launch/rank_failure.h"

namespace smoe {

struct NodeMessage {
  enum class Kind : std::uint8_t {
    joined,  ///< node to first: joins; `numbers` are its number of hosts and of ranks
    failed,  ///< node to first: a rank failed, with `failure`
    ended,   ///< node to first: all its ranks have exited; `numbers` is the exit code
    left,    ///< node to first: has received `finish`
    signal,  ///< both ways: `numbers` is a signal for all ranks
    start,   ///< first to all: start the ranks; `numbers` are the ranks per node
    stop,    ///< first to all: stop the ranks, since a rank failed
    finish,  ///< first to all: the job has finished; `numbers` is the exit code; `failure` if it
             ///< failed
  };

  Kind kind = Kind::joined;
  std::vector<int> numbers = {};
  JobFailure failure = {};
};

std::string to_text(const NodeMessage& message);
/// Parses untrusted text. Throws: UsageError for anything that to_text does not produce.
NodeMessage parse_node_message(const std::string& text);

}  // namespace smoe
