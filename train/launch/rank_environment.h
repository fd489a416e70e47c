// RankEnvironment: the rank of this process and the rendezvous of its job, from the environment
// variables of the launcher that started it: `smoe launch`, torchrun, mpirun (Open MPI) or srun.
#pragma once
#include <map>
#include <string>

namespace smoe {

/// A process's ranks and the rendezvous of its job.
struct RankEnvironment {
  int rank = 0;              ///< 0 to world_size - 1
  int world_size = 1;        ///< processes of the job
  int local_rank = 0;        ///< among the ranks of this host
  int local_world_size = 1;  ///< ranks of this host
  int node_rank = 0;         ///< of this host; if unset, assumes the same number of ranks per host
  std::string endpoint;      ///< host:port of the rendezvous; empty for a single rank
  std::string job_id;        ///< distinguishes this job's rendezvous from others; may be empty
  bool is_host = false;   ///< whether this process must serve the rendezvous, as no launcher does
  int restart_count = 0;  ///< number of earlier starts of all ranks
  int threads = 0;        ///< that the launcher assigned to this rank; 0: unspecified
  bool has_own_cores = false;  ///< whether the launcher may have bound this rank to cores
};

/// Reads the environment from `variables`. The first family with a set variable applies:
///   RANK, WORLD_SIZE               smoe launch, torchrun, or set by hand
///   OMPI_COMM_WORLD_RANK           mpirun
///   SLURM_PROCID in a step         srun; the batch script itself is not a step
/// Without any, this is the only rank. The rendezvous is at SMOE_RDZV_ENDPOINT if that is set.
/// Otherwise it is at MASTER_ADDR, one port above MASTER_PORT, on which torchrun itself listens.
/// mpirun and srun set neither: then it is on the loopback address, at a port derived from the job
/// id; ranks on several hosts need MASTER_ADDR. Throws: UsageError that names the variable, its
/// rule and its value.
RankEnvironment read_rank_environment(const std::map<std::string, std::string>& variables);

/// As above, from this process's environment.
RankEnvironment read_rank_environment();

/// The number of threads for the kernels of this rank, such that the ranks of a host together use
/// each of its cores once: SMOE_THREADS if set, otherwise the cores that this process may run on,
/// divided among the ranks unless each is bound to its own.
int threads_of(const RankEnvironment& environment);

}  // namespace smoe
