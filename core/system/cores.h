// The number of CPU cores that this process may use.
#pragma once
#include <string>

namespace smoe {

/// The cores in this process's affinity mask, bounded by the CPU quota of its control groups, as
/// set by `docker --cpus`; at least 1.
int num_usable_cores();

/// The quota of the control group `path` ("/a/b") and its ancestors below the mount point `root`,
/// in whole cores, rounded up; 0 without a quota. Reads cpu.max (cgroup v2) and cpu.cfs_quota_us
/// (v1).
int cpu_quota(const std::string& root, const std::string& path);

}  // namespace smoe
