#include "core/device.h"

#include <doctest/doctest.h>

#include "core/base/check.h"
#include "core/distributed/nccl_communicator.h"
#include "tests/support/ranks.h"

using namespace smoe;

TEST_CASE("a rank takes the GPU of its local rank, or the only one that it sees") {
  CHECK(gpu_of_rank(0, 1, 1) == 0);
  CHECK(gpu_of_rank(0, 1, 8) == 0);
  for (int rank = 0; rank < 4; ++rank) {
    CHECK(gpu_of_rank(rank, 4, 8) == rank);
    CHECK(gpu_of_rank(rank, 4, 4) == rank);
    CHECK(gpu_of_rank(rank, 4, 1) == 0);  // as under srun --gpus-per-task=1
  }
  CHECK_THROWS_WITH_AS(
      gpu_of_rank(0, 4, 2),
      "device: 4 ranks on this host need a GPU each; got 2 GPUs; start fewer ranks or "
      "use the CPU",
      UsageError);
}

TEST_CASE("ranks on CPUs need no GPU") {
  CHECK(select_device("cpu", 3, 4) == Device());
  CHECK_THROWS_AS(select_device("tpu", 0, 2), UsageError);
}

TEST_CASE("NCCL refuses tensors' devices that it cannot serve") {
  test::on_ranks(2, [](Communicator& control, RendezvousStore& store) {
    CHECK_THROWS_AS(nccl_communicator(store, control, {}), UsageError);
    control.barrier()->wait();
  });
}
