#include "core/distributed/communicator.h"

#include <algorithm>

#include "core/base/check.h"

namespace smoe {
namespace {

class Finished final : public Work {
 public:
  void wait() override {}
};

class SingleCommunicator final : public Communicator {
 public:
  int rank() const override { return 0; }
  int world_size() const override { return 1; }
  WorkHandle all_reduce(const Tensor&) override { return finished_; }
  WorkHandle reduce_scatter(const Tensor&) override { return finished_; }
  WorkHandle all_gather(const Tensor&) override { return finished_; }
  WorkHandle broadcast(const Tensor&, int root) override {
    SMOE_CHECK(root == 0, "broadcast: root must be a rank; got ", root, " of 1");
    return finished_;
  }
  WorkHandle barrier() override { return finished_; }
  void set_timeout(double) override {}
  void cancel() override {}

 private:
  WorkHandle finished_ = std::make_shared<Finished>();
};

}  // namespace

Part part_of(std::int64_t numel, int rank, int world_size) {
  constexpr std::int64_t kUnit = 64;
  const std::int64_t share = (numel + world_size - 1) / world_size;
  const std::int64_t step = (share + kUnit - 1) / kUnit * kUnit;
  const std::int64_t begin = std::min(rank * step, numel);
  return {begin, std::min(begin + step, numel)};
}

Communicator& single_communicator() {
  static SingleCommunicator communicator;
  return communicator;
}

}  // namespace smoe
