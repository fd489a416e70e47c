#include "core/device.h"

#include "core/base/check.h"

namespace smoe {
namespace {

const Stream kCpuStream;
thread_local const Stream* current = &kCpuStream;

}  // namespace

const Stream& current_stream() {
  return *current;
}

Launch launch() {
  return current->launch();
}

StreamGuard::StreamGuard(const Stream& stream) : previous_(current) {
  current = &stream;
}
StreamGuard::~StreamGuard() {
  current = previous_;
}

Device select_device(const std::string& name) {
  SMOE_CHECK(name == "auto" || name == "cpu" || name == "cuda",
             "run.device: must be auto, cpu or cuda; got ", name);
  SMOE_CHECK(
      name != "cuda",
      "run.device: cuda was asked for, but this build of smoe has no CUDA backend; use cpu or "
      "auto");
  return {DeviceType::cpu, 0};
}

std::string to_string(Device device) {
  return device.type == DeviceType::cpu ? "cpu" : concat("cuda:", device.index);
}

}  // namespace smoe
