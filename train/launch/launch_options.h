// What `smoe launch` was asked to do, and what in it depends on this machine.
#pragma once
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "train/launch/stream_choice.h"

namespace smoe {

struct LaunchOptions {
  int num_local_ranks = 1;         ///< on this host
  int num_nodes = 1;               ///< hosts, one launcher on each
  int node_rank = 0;               ///< of this host; the launcher of node 0 serves the rendezvous
  std::string host = "127.0.0.1";  ///< of the rendezvous: the one that node 0 listens on
  int port = 0;                    ///< of the rendezvous; 0: a free one, which is for one host only
  std::string job_id;              ///< who does not know it is refused at the rendezvous
  int max_restarts = 0;
  double grace_s = 30;                                  ///< from a forwarded signal to SIGKILL
  double join_s = 300;                                  ///< how long launchers wait for each other
  std::string log_folder;                               ///< empty: no logs are kept
  std::int64_t max_log_bytes = std::int64_t{64} << 20;  ///< of a file, before it is rotated
  StreamChoice redirects;                               ///< streams that the console never shows
  StreamChoice tee;  ///< streams that it shows in lines with a prefix

  std::string program;                 ///< what each rank runs
  std::vector<std::string> arguments;  ///< the first is the program's name
  /// Added to the arguments when ranks are started again.
  std::vector<std::string> restart_arguments;
  /// The newest step that ranks started now would go on from, -1 when there is none. Empty where
  /// nobody knows: then every start counts as progress.
  std::function<std::int64_t()> saved_step;
};

/// The number of ranks that --nproc-per-node means: a number, "cpu" for one a core, "gpu" for one a
/// GPU, "auto" for GPUs where there are any and cores elsewhere.
/// Throws: UsageError for other text, or for "gpu" where there is none.
int num_ranks_of(const std::string& text);

/// The cores that this process may run on.
int num_usable_cores();

/// 16 random hex digits.
std::string random_job_id();

/// This machine's name.
std::string host_name();

}  // namespace smoe
