#include "core/distributed/communicator.h"

#include "core/base/check.h"

namespace smoe {
namespace {

class Completed final : public Collective {
 public:
  void wait() override {}
};

class SingleCommunicator final : public Communicator {
 public:
  int rank() const override { return 0; }
  int world_size() const override { return 1; }
  CollectiveHandle all_reduce(const Tensor&) override { return completed_; }
  CollectiveHandle reduce_scatter(const Tensor&) override { return completed_; }
  CollectiveHandle all_gather(const Tensor&) override { return completed_; }
  CollectiveHandle broadcast(const Tensor&, int root) override {
    SMOE_CHECK(root == 0, "broadcast: root must be a rank; got ", root, " of 1");
    return completed_;
  }
  CollectiveHandle broadcast_each(const std::vector<RootedTensor>& tensors) override {
    for (const RootedTensor& tensor : tensors) broadcast(tensor.values, tensor.root);
    return completed_;
  }
  CollectiveHandle barrier() override { return completed_; }
  void set_timeout(double) override {}
  void cancel() override {}

 private:
  CollectiveHandle completed_ = std::make_shared<Completed>();
};

}  // namespace

Communicator& single_communicator() {
  static SingleCommunicator communicator;
  return communicator;
}

}  // namespace smoe
