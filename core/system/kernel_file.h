// Files of the kernel's that tell about the machine: /proc, /sys.
#pragma once
#include <cstdint>
#include <string>

namespace smoe {

/// At most 4 KiB of a file of /proc or /sys, whose size is reported as 0. Empty when it cannot be
/// read.
std::string read_kernel_file(const std::string& path);

/// Memory that processes may still take without swapping, in bytes: of the machine, or less where
/// the control group of this process is limited to less; 0 where the machine does not tell.
std::int64_t available_memory_bytes(const std::string& meminfo_path = "/proc/meminfo",
                                    const std::string& group_folder = "/sys/fs/cgroup");

}  // namespace smoe
