// DryCommunicator: rank 0 of several ranks of which no other runs. Operations do nothing.
#pragma once
#include <memory>

#include "core/base/check.h"
#include "core/distributed/communicator.h"

namespace smoe {

class DryCommunicator final : public Communicator {
 public:
  explicit DryCommunicator(int world_size) : world_size_(world_size) {
    SMOE_CHECK(world_size >= 1, "plan: must be for at least one rank; got ", world_size);
  }

  int rank() const override { return 0; }
  int world_size() const override { return world_size_; }
  CollectiveHandle all_reduce(const Tensor&) override { return done_; }
  CollectiveHandle reduce_scatter(const Tensor&) override { return done_; }
  CollectiveHandle all_gather(const Tensor&) override { return done_; }
  CollectiveHandle broadcast(const Tensor&, int) override { return done_; }
  CollectiveHandle broadcast_each(const std::vector<RootedTensor>&) override { return done_; }
  CollectiveHandle barrier() override { return done_; }
  void set_timeout(double) override {}
  void cancel() override {}

 private:
  class Done final : public Collective {
   public:
    void wait() override {}
  };

  int world_size_;
  CollectiveHandle done_ = std::make_shared<Done>();
};

}  // namespace smoe
