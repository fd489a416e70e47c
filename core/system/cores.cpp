#include "core/system/cores.h"

#include <sched.h>

#include <algorithm>
#include <iterator>
#include <sstream>
#include <thread>

#include "core/base/check.h"
#include "core/system/folder.h"
#include "core/system/kernel_file.h"

namespace smoe {
namespace {

constexpr const char* kRoot = "/sys/fs/cgroup";

// Cores of one control group, rounded up; 0 without a quota.
int quota_of(const std::string& folder) {
  std::istringstream unified(read_kernel_file(folder + "/cpu.max"));
  std::istringstream quota_file(read_kernel_file(folder + "/cpu.cfs_quota_us"));
  std::istringstream period_file(read_kernel_file(folder + "/cpu.cfs_period_us"));
  std::int64_t quota = 0, period = 0;  // of time, in the same unit; "max" or -1: no quota
  if (!(unified >> quota >> period) && !(quota_file >> quota && period_file >> period)) return 0;
  if (quota <= 0 || period <= 0) return 0;
  return static_cast<int>(std::min<std::int64_t>((quota + period - 1) / period, 1 << 20));
}

// The smaller of two quotas, of which 0 is none.
int tighter(int a, int b) {
  return a == 0 || (b != 0 && b < a) ? b : a;
}

int own_quota() {
  // Lines such as "0::/a/b" (v2) and "4:cpu,cpuacct:/a/b" (v1).
  std::istringstream groups(read_kernel_file("/proc/self/cgroup"));
  int quota = 0;
  for (std::string line; std::getline(groups, line);) {
    const std::size_t first = line.find(':'), second = line.find(':', first + 1);
    if (second == std::string::npos) continue;
    const std::string controllers = concat(",", line.substr(first + 1, second - first - 1), ",");
    const std::string path = line.substr(second + 1);
    if (controllers == ",,") quota = tighter(quota, cpu_quota(kRoot, path));
    if (controllers.find(",cpu,") != std::string::npos)
      quota = tighter(quota, cpu_quota(concat(kRoot, "/cpu"), path));
  }
  return quota;
}

cpu_set_t mask_of(const std::vector<int>& cores) {
  cpu_set_t mask;
  CPU_ZERO(&mask);
  for (const int core : cores) CPU_SET(core, &mask);
  return mask;
}

/// Cores in a list such as "0-15,32-47".
std::vector<int> parse_cores(const std::string& text) {
  std::vector<int> cores;
  std::istringstream list(text);
  for (int first = 0, last = 0; list >> first; list.ignore()) {
    last = first;
    if (list.peek() == '-') {
      list.ignore();
      list >> last;
    }
    for (int core = first; core <= last && core < CPU_SETSIZE; ++core) cores.push_back(core);
    if (list.peek() != ',') break;
  }
  return cores;
}

}  // namespace

int cpu_quota(const std::string& root, const std::string& path) {
  int quota = quota_of(root);
  for (std::string group = path; group.size() > 1; group = parent_of(group)) {
    quota = tighter(quota, quota_of(root + group));
    if (group.front() != '/') break;
  }
  return quota;
}

std::string cpu_model() {
  std::istringstream lines(read_kernel_file("/proc/cpuinfo"));
  for (std::string line; std::getline(lines, line);) {
    const std::size_t value = line.find(": ");
    if (line.starts_with("model name") && value != std::string::npos) return line.substr(value + 2);
  }
  return "unknown";
}

std::vector<int> cores_near_device(const std::string& pci_address, const std::string& root) {
  std::istringstream file(
      read_kernel_file(concat(root, "/bus/pci/devices/", pci_address, "/numa_node")));
  int node = -1;
  if (!(file >> node) || node < 0) return {};
  return parse_cores(read_kernel_file(concat(root, "/devices/system/node/node", node, "/cpulist")));
}

CoreBinding::CoreBinding(const std::vector<int>& cores) {
  cpu_set_t before;
  if (::sched_getaffinity(0, sizeof before, &before) != 0) return;
  std::vector<int> usable;
  std::copy_if(cores.begin(), cores.end(), std::back_inserter(usable),
               [&](int core) { return CPU_ISSET(core, &before); });
  const cpu_set_t mask = mask_of(usable);
  if (usable.empty() || ::sched_setaffinity(0, sizeof mask, &mask) != 0) return;
  for (int core = 0; core < CPU_SETSIZE; ++core)
    if (CPU_ISSET(core, &before)) before_.push_back(core);
}

CoreBinding::~CoreBinding() {
  if (before_.empty()) return;
  const cpu_set_t mask = mask_of(before_);
  ::sched_setaffinity(0, sizeof mask, &mask);
}

int num_usable_cores() {
  cpu_set_t mask;
  CPU_ZERO(&mask);
  int cores = ::sched_getaffinity(0, sizeof mask, &mask) == 0
                  ? CPU_COUNT(&mask)
                  : static_cast<int>(std::thread::hardware_concurrency());
  if (const int quota = own_quota()) cores = std::min(cores, quota);
  return std::max(1, cores);
}

}  // namespace smoe
