// The CPU cores that this process may use, and their model.
#pragma once
#include <string>

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

}  // namespace smoe
