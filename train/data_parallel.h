// Data parallelism: the ranks hold the same weights, each runs its share of a step's micro-batches,
// and gradients are summed over the ranks bucket by bucket while backward still runs.
//
// Bucket b is elements [b size, (b + 1) size) of the gradient arena, which backward fills from its
// start. It is sent as soon as every parameter in it is complete and all buckets before it are
// sent, so that all ranks send in one order.
//   zero off   all_reduce of each bucket; everyone updates all weights
//   zero on    reduce_scatter of each bucket; each rank updates its part of each, with optimizer
//              state for that part alone; then all_gather of the weights
// Sums are in the order of ranks either way, so that both train the same bits.
#pragma once
#include <span>
#include <utility>
#include <vector>

#include "autograd/parameter_store.h"
#include "core/distributed/communicator.h"
#include "optim/shards.h"
#include "train/config/config.h"

namespace smoe {

class DataParallel {
 public:
  /// Takes the store's gradient hook. Both must outlive this.
  DataParallel(ParameterStore& store, Communicator& ranks, const ParallelConfig& config);
  DataParallel(const DataParallel&) = delete;
  DataParallel& operator=(const DataParallel&) = delete;

  int rank() const { return ranks_.rank(); }
  int world_size() const { return ranks_.world_size(); }
  /// Whether this rank keeps optimizer state for a part of the weights alone.
  bool is_sharded() const { return is_sharded_; }
  /// What this rank keeps optimizer state for.
  const Shards& optimizer_shards() const { return optimizer_shards_; }

  /// To be called before a step's first micro-batch.
  void begin_step();
  /// To be called after the last: returns when the gradient is the sum over all ranks, in those
  /// elements that this rank's optimizer updates; the others are undefined.
  void finish_gradients();
  /// f64 [1]: sum of the squares of the summed gradient, the same bits on all ranks.
  Tensor sum_of_squares() const;
  /// To be called after the optimizer's step: brings the weights together that others updated.
  void gather_parameters();

  /// Each element becomes its sum over the ranks; the tensors are of one dtype.
  void sum(std::span<const Tensor> tensors) const;
  void sum(std::vector<double>& values) const;

 private:
  std::pair<std::size_t, std::size_t> buckets_of(const Parameter& parameter) const;
  void gradient_complete(const Parameter& parameter);
  void send_next();

  ParameterStore& store_;
  Communicator& ranks_;
  bool is_sharded_;
  std::vector<Range> buckets_;
  Shards shards_;                                // this rank's part of each bucket
  Shards optimizer_shards_;                      // the same, or everything
  std::vector<int> parameters_in_, missing_in_;  // by bucket: all, and those not complete yet
  std::vector<CollectiveHandle> work_;           // of the buckets sent in this step
};

}  // namespace smoe
