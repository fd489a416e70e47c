// Connections that are aborted in the middle of an operation leave nothing behind.
#include <doctest/doctest.h>

#include "core/gpu.h"
#include "core/host_wait.h"
#include "tests/support/gpu_ranks.h"

using namespace smoe;
using test::on_gpu_ranks;

namespace {

constexpr int kAborts = 100;
constexpr std::int64_t kToleranceBytes = std::int64_t{16} << 20;

std::int64_t free_bytes(int device) {
  const Stream stream(Device{DeviceType::cuda, device});
  const StreamGuard guard(stream);
  release_cached_memory();
  return gpu::memory_info(device).free_bytes;
}

/// Connects both ranks; then only the first takes part in an operation, and aborts it.
void abort_once(Transport transport) {
  on_gpu_ranks(transport, 2, [](Communicator& gpus, Communicator& control, RendezvousStore& store) {
    const Tensor values = Tensor::zeros({1'000'000}, DType::f32, Category::workspace);
    gpus.all_reduce(values)->wait();
    current_stream().synchronize();
    control.barrier()->wait();
    if (gpus.rank() == 0) {
      gpus.all_reduce(values)->wait();
      gpus.cancel();
      const HostWaitScope free([] {});
      current_stream().synchronize();
      store.set("aborted", "", Deadline::in(20));
    } else {
      store.get("aborted", Deadline::in(20));
      gpus.cancel();
    }
  });
}

}  // namespace

TEST_CASE("100 aborts in a row leave the memory of both GPUs as it was") {
  for (const Transport transport : {Transport::copy, Transport::nccl}) {
    CAPTURE(transport == Transport::nccl);
    abort_once(transport);  // contexts and what libraries keep for the process
    const std::int64_t before[] = {free_bytes(0), free_bytes(1)};
    for (int i = 0; i < kAborts; ++i) abort_once(transport);
    for (const int device : {0, 1}) CHECK(free_bytes(device) >= before[device] - kToleranceBytes);
  }
}
