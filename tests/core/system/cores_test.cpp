#include "core/system/cores.h"

#include <doctest/doctest.h>
#include <sched.h>

#include "core/system/file.h"
#include "core/system/folder.h"
#include "tests/support/temporary_folder.h"

using namespace smoe;

TEST_CASE("the affinity mask bounds the usable cores") {
  cpu_set_t before, one;
  REQUIRE(::sched_getaffinity(0, sizeof before, &before) == 0);
  CHECK(num_usable_cores() >= 1);
  CHECK(num_usable_cores() <= CPU_COUNT(&before));
  CPU_ZERO(&one);
  for (int core = 0; CPU_COUNT(&one) == 0; ++core)
    if (CPU_ISSET(core, &before)) CPU_SET(core, &one);
  REQUIRE(::sched_setaffinity(0, sizeof one, &one) == 0);
  CHECK(num_usable_cores() == 1);
  REQUIRE(::sched_setaffinity(0, sizeof before, &before) == 0);
}

TEST_CASE("the CPU quota is the tightest of a control group and its ancestors, rounded up") {
  const TemporaryFolder root;
  make_folders(root / "a/b");
  CHECK(cpu_quota(root.path(), "/a/b") == 0);
  write_file_atomically(root / "a/b/cpu.max", "max 100000\n");
  CHECK(cpu_quota(root.path(), "/a/b") == 0);
  write_file_atomically(root / "a/cpu.max", "250000 100000\n");
  CHECK(cpu_quota(root.path(), "/a/b") == 3);
  write_file_atomically(root / "a/b/cpu.max", "50000 100000\n");
  CHECK(cpu_quota(root.path(), "/a/b") == 1);
  write_file_atomically(root / "cpu.cfs_quota_us", "400000\n");  // version 1
  write_file_atomically(root / "cpu.cfs_period_us", "200000\n");
  CHECK(cpu_quota(root.path(), "/a") == 2);
  write_file_atomically(root / "cpu.cfs_quota_us", "-1\n");
  CHECK(cpu_quota(root.path(), "/") == 0);
  CHECK(cpu_quota(root.path(), "/missing") == 0);
  write_file_atomically(root / "cpu.max", "invalid");
  CHECK(cpu_quota(root.path(), "/") == 0);
}

TEST_CASE("the cores near a device are those of its NUMA node") {
  const TemporaryFolder root;
  const auto write = [&](const std::string& path, const char* text) {
    make_folders(parent_of(root / path));
    write_file_atomically(root / path, text);
  };
  write("bus/pci/devices/0000:1b:00.0/numa_node", "1\n");
  write("bus/pci/devices/0000:9a:00.0/numa_node", "-1\n");
  write("devices/system/node/node1/cpulist", "2-4,8,10-11\n");
  const auto near = [&](const char* device) { return cores_near_device(device, root.path()); };
  CHECK(near("0000:1b:00.0") == std::vector<int>{2, 3, 4, 8, 10, 11});
  CHECK(near("0000:9a:00.0").empty());
  CHECK(near("0000:00:00.0").empty());
}

TEST_CASE("a binding restricts this thread to the usable of its cores, and ends") {
  const int cores = num_usable_cores();
  cpu_set_t before;
  REQUIRE(::sched_getaffinity(0, sizeof before, &before) == 0);
  int last = CPU_SETSIZE - 1;
  while (!CPU_ISSET(last, &before)) --last;
  {
    const CoreBinding one({last, CPU_SETSIZE - 1});
    CHECK(num_usable_cores() == 1);
    const CoreBinding impossible(std::vector<int>{});
    CHECK(num_usable_cores() == 1);
  }
  CHECK(num_usable_cores() == cores);
}
