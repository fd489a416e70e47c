#include "train/launch/launch_options.h"

#include <unistd.h>

#include <charconv>
#include <random>

#include "core/base/check.h"
#include "core/gpu.h"
#include "core/system/cores.h"

namespace smoe {
namespace {

constexpr int kMaxLocalRanks = 4096;

int num_gpus() {
  int count = 0;
  while (gpu::unavailable_reason(count).empty()) ++count;
  return count;
}

}  // namespace

int parse_num_ranks(const std::string& flag, const std::string& text) {
  if (text == "cpu") return num_usable_cores();
  if (text == "gpu" || text == "auto") {
    if (const int gpus = num_gpus()) return gpus;
    SMOE_CHECK(text == "auto", flag, ": gpu, but ", gpu::unavailable_reason(0));
    return num_usable_cores();
  }
  int number = 0;
  const char* const end = text.data() + text.size();
  const auto [stop, error] = std::from_chars(text.data(), end, number);
  SMOE_CHECK(error == std::errc() && stop == end && number >= 1 && number <= kMaxLocalRanks, flag,
             ": must be 1 to ", kMaxLocalRanks, ", gpu, cpu or auto; got '", text, "'");
  return number;
}

std::vector<std::vector<int>> cores_near_gpus(const std::string& flag, int num_ranks) {
  const int gpus = num_gpus();
  SMOE_CHECK(gpus >= num_ranks, flag, ": each rank on this host must have a GPU; got ", num_ranks,
             " ranks and ", gpus, " GPUs");
  std::vector<std::vector<int>> cores;
  for (int rank = 0; rank < num_ranks; ++rank)
    cores.push_back(cores_near_device(gpu::pci_address(rank)));
  return cores;
}

std::string random_job_id() {
  std::random_device random;
  std::string id;
  for (int i = 0; i < 16; ++i) id += "0123456789abcdef"[random() & 15];
  return id;
}

std::string host_name() {
  char name[256] = {};
  return ::gethostname(name, sizeof name - 1) == 0 ? name : "this host";
}

}  // namespace smoe
