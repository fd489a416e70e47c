#include "train/run_facts.h"

#include "core/device.h"
#include "core/distributed/nccl_communicator.h"
#include "core/gpu.h"
#include "core/system/digest.h"
#include "core/system/file.h"
#include "core/version.h"
#include "train/config/schema.h"

namespace smoe {
namespace {

std::string program_digest() {
  const File program = File::open("/proc/self/exe");
  std::string block(std::size_t{1} << 20, '\0');
  Hasher hasher;
  const auto size = static_cast<std::int64_t>(block.size());
  for (std::int64_t at = 0, bytes = size; bytes == size; at += bytes) {
    bytes = program.read_some_at(at, block.data(), size);
    hasher.update(block.data(), bytes);
  }
  return hasher.digest().hex();
}

}  // namespace

std::vector<Fact> run_facts(const Config& config, const std::vector<std::string>& consent,
                            const TrainingData& training,
                            const std::vector<ValidationSet>& validation) {
  Config copy = config;  // fields_of binds to a mutable Config
  std::vector<Fact> facts = {{"the program", SMOE_VERSION " " + program_digest()}};
  for (const Field& field : fields_of(copy)) facts.push_back({field.key, to_yaml(field.target)});
  std::string keys;
  for (const std::string& key : consent) keys += key + " ";
  facts.push_back({"the keys that may change", keys});
  facts.push_back({"the training data", training.digest().hex()});
  std::string digests;
  for (const ValidationSet& validated : validation) digests += validated.set.digest().hex();
  facts.push_back({"the validation data", digests});
  const bool has_gpu = current_stream().device().type == DeviceType::cuda;
  facts.push_back({"the device", has_gpu ? "cuda" : "cpu"});
  if (has_gpu) {
    facts.push_back({"the CUDA version of the driver", gpu::driver_version()});
    facts.push_back({"NCCL", nccl_unavailable_reason().empty() ? nccl_version() : "none"});
  }
  return facts;
}

std::string device_identity() {
  const Device device = current_stream().device();
  return device.type == DeviceType::cuda ? gpu::identity(device.index) : "";
}

}  // namespace smoe
