// The CPU cores that this process may use, and their model.
#pragma once
#include <string>
#include <vector>

namespace smoe {

/// The cores in this process's affinity mask, bounded by the CPU quota of its control groups, as
/// set by `docker --cpus`; at least 1.
int num_usable_cores();

/// The CPU's model, as in /proc/cpuinfo: "AMD EPYC 9654 96-Core Processor"; "unknown" without one.
std::string cpu_model();

/// The quota of the control group `path` ("/a/b") and its ancestors below the mount point `root`,
/// in whole cores, rounded up; 0 without a quota. Reads cpu.max (cgroup v2) and cpu.cfs_quota_us
/// (v1).
int cpu_quota(const std::string& root, const std::string& path);

/// The cores of the NUMA node that a PCI device, "0000:1b:00.0", is attached to, as files under
/// `root` say; empty where the machine has no such nodes or does not tell.
std::vector<int> cores_near_device(const std::string& pci_address,
                                   const std::string& root = "/sys");

/// Restricts the calling thread, and the processes it starts, to some of its cores while it lives.
/// Does nothing if it may use none of `cores`.
class CoreBinding {
 public:
  explicit CoreBinding(const std::vector<int>& cores);
  ~CoreBinding();
  CoreBinding(const CoreBinding&) = delete;
  CoreBinding& operator=(const CoreBinding&) = delete;

 private:
  std::vector<int> before_;  // empty: unchanged
};

}  // namespace smoe
