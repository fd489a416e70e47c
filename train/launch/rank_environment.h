// Which of a job's processes this one is, as the launcher that started it says in environment
// variables: `smoe launch`, torchrun, mpirun (Open MPI) or srun.
#pragma once
#include <map>
#include <string>

namespace smoe {

/// A process's place among the ranks of its job, and where the ranks meet.
struct RankEnvironment {
  int rank = 0;                ///< of this process, 0 to world_size - 1
  int world_size = 1;          ///< processes of the job
  int local_rank = 0;          ///< among the ranks of this host
  int local_world_size = 1;    ///< ranks of this host
  int node_rank = 0;           ///< of this host; assumes equally full hosts where nobody says it
  std::string endpoint;        ///< host:port of the rendezvous store; empty for a single rank
  std::string job_id;          ///< what tells this job's store from another's; may be empty
  bool is_host = false;        ///< whether this process must serve the store: no launcher does
  int restart_count = 0;       ///< how often all ranks were started anew before
  int threads = 0;             ///< that the launcher gives this rank; 0: it does not say
  bool has_own_cores = false;  ///< whether the launcher may have bound this rank to some
};

/// Reads the place from `variables`. The first family of which a variable is set counts:
///   RANK, WORLD_SIZE               smoe launch, torchrun, or set by hand
///   OMPI_COMM_WORLD_RANK           mpirun
///   SLURM_PROCID in a step         srun; a batch script itself is no step
/// Without any, this is the only rank. The store is at SMOE_RDZV_ENDPOINT where that is set. Else
/// it is at MASTER_ADDR, one port above MASTER_PORT, on which torchrun itself listens. mpirun and
/// srun set neither: then it is on the loopback address, at a port that follows from the job's id;
/// ranks on several hosts need MASTER_ADDR.
/// Throws: UsageError that names the variable, its rule and its value.
RankEnvironment read_rank_environment(const std::map<std::string, std::string>& variables);

/// As above, from this process's environment.
RankEnvironment read_rank_environment();

/// How many threads the kernels of this rank should use, so that the ranks of a host together use
/// each of its cores once: what the launcher says in SMOE_THREADS, else the cores that it may run
/// on, divided among the ranks unless it was bound to its own.
int threads_of(const RankEnvironment& environment);

}  // namespace smoe
