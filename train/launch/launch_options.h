// The options of `smoe launch`, and the facts about this machine that they depend on.
#pragma once
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "train/launch/stream_choice.h"

namespace smoe {

struct LaunchOptions {
  int num_local_ranks = 1;  ///< on this host
  int num_nodes = 1;        ///< hosts, one launcher on each
  int node_rank = 0;        ///< index of this host; the launcher of node 0 serves the rendezvous
  std::string host = "127.0.0.1";  ///< rendezvous address, on which node 0 listens
  int port = 0;                    ///< rendezvous port; 0 chooses a free one (single host only)
  std::string job_id;              ///< the rendezvous refuses clients without it
  /// Restarts after failures. Without a value: one, if no checkpoint was saved yet and saved_step
  /// is known.
  std::optional<int> max_restarts;
  double grace_s = 30;                                  ///< from a forwarded signal to SIGKILL
  double join_s = 300;                                  ///< time limit for all launchers to join
  std::string log_folder;                               ///< empty: no logs
  std::int64_t max_log_bytes = std::int64_t{64} << 20;  ///< size at which a log file is rotated
  StreamChoice redirects;  ///< streams that are not shown on the console
  StreamChoice tee;        ///< streams shown on the console as prefixed lines

  /// Cores that each local rank may use; empty: those of the launcher.
  std::vector<std::vector<int>> cores;

  std::string program;                 ///< program that each rank runs
  std::vector<std::string> arguments;  ///< the first is the program's name
  /// Appended to the arguments on a restart.
  std::vector<std::string> restart_arguments;
  /// The step that ranks started now would resume from, -1 without a checkpoint. Empty when
  /// unknown: then every start counts as progress.
  std::function<std::int64_t()> saved_step;
};

/// Parses the number of ranks on this host: a number, "cpu" for one per core, "gpu" for one per
/// GPU, "auto" for one per GPU if there are any, otherwise per core.
/// Throws: UsageError, naming `flag`, for other text, or for "gpu" without a GPU.
int parse_num_ranks(const std::string& flag, const std::string& text);

/// For each of `num_ranks` ranks with a GPU each, the cores of the NUMA node of its GPU, empty
/// where the machine does not tell. Throws: UsageError, naming `flag`, where there are fewer GPUs.
std::vector<std::vector<int>> cores_near_gpus(const std::string& flag, int num_ranks);

/// 16 random hexadecimal digits.
std::string random_job_id();

/// This machine's name.
std::string host_name();

}  // namespace smoe
