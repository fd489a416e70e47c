#include "core/system/kernel_file.h"

#include <doctest/doctest.h>

#include "core/system/file.h"
#include "tests/support/temporary_folder.h"

using namespace smoe;

TEST_CASE("available memory is the machine's, or what its control group leaves") {
  const TemporaryFolder folder;
  const std::string meminfo = folder.path() + "/meminfo";
  write_file_atomically(meminfo, "MemTotal:  2000 kB\nMemAvailable:   1000 kB\nCached: 7 kB\n");
  CHECK(available_memory_bytes(meminfo, folder.path()) == 1000 * 1024);
  write_file_atomically(folder.path() + "/memory.max", "max\n");
  write_file_atomically(folder.path() + "/memory.current", "5000\n");
  CHECK(available_memory_bytes(meminfo, folder.path()) == 1000 * 1024);
  write_file_atomically(folder.path() + "/memory.max", "6000\n");
  CHECK(available_memory_bytes(meminfo, folder.path()) == 1000);
  write_file_atomically(folder.path() + "/memory.max", "4000\n");
  CHECK(available_memory_bytes(meminfo, folder.path()) == 0);
  CHECK(available_memory_bytes(folder.path() + "/missing", folder.path()) == 0);
  CHECK(available_memory_bytes() > 0);
}

TEST_CASE("a kernel's file that cannot be read is empty") {
  CHECK(read_kernel_file("/proc/missing").empty());
  CHECK(!read_kernel_file("/proc/self/stat").empty());
}
