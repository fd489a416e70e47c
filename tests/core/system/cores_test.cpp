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
