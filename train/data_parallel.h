// Data parallelism: the ranks hold the same weights, each runs its share of a step's micro-batches,
// and gradients are reduced over the ranks, bucket by bucket, while backward still runs.
//
// Buckets are contiguous ranges of equal size of the gradient buffer, which backward fills from its
// start; a parameter may extend over several. A bucket is reduced once every parameter in it is
// complete and all buckets before it have been started, so that all ranks use the same order.
//   zero off   all_reduce of each bucket; every rank updates all weights
//   zero on    reduce_scatter of each bucket; each rank updates its part of each bucket and keeps
//              masters and moments only for that part; then all_gather of the weights, in their
//              order of use in the next forward pass, where the first op that reads a weight waits
//              for it
// Both accumulate in the communicator's order of ranks; where that does not depend on the operation
// they train bit-identical weights.
#pragma once
#include <utility>
#include <vector>

#include "autograd/parameter_store.h"
#include "core/distributed/communicator.h"
#include "optim/shards.h"
#include "train/config/config.h"

namespace smoe {

class DataParallel {
 public:
  /// Sets the store's gradient hooks: a GradientStep reduces the gradient over the ranks, and its
  /// finish() returns when this rank's optimizer elements are reduced; the others are undefined.
  /// Both arguments must outlive this.
  DataParallel(ParameterStore& store, Communicator& communicator, const ParallelConfig& config);
  /// The elements that this rank updates, of buffers of `numel` elements on the current device
  /// whose gradients are of dtype `gradient`: for ParameterStore::Options::own.
  static std::vector<Range> own_elements(std::int64_t numel, DType gradient,
                                         Communicator& communicator, const ParallelConfig& config);
  DataParallel(const DataParallel&) = delete;
  DataParallel& operator=(const DataParallel&) = delete;

  int rank() const { return communicator_.rank(); }
  int world_size() const { return communicator_.world_size(); }
  /// Whether each rank updates, and keeps masters and moments of, only its part of the weights.
  bool is_sharded() const { return is_sharded_; }

  /// f64 [1]: sum of squares of the reduced gradient, bit-identical on all ranks.
  Tensor gradient_sum_of_squares() const;
  /// Call after this rank's weights have changed: starts to gather those of the other ranks, in the
  /// dtype that ops read. Parameter::value() waits for what it needs of them.
  void start_weight_gather();
  /// Waits for all of them at once.
  void await_values();

  /// Replaces each element by its sum over the ranks.
  void sum(const Tensor& values) const;
  void sum(std::vector<double>& values) const;

 private:
  void begin_step();
  void gradient_complete(const Parameter& parameter);
  void finish_step();
  std::pair<std::size_t, std::size_t> buckets_of(const Parameter& parameter) const;
  void reduce_next();
  void await_value(const Parameter& parameter);
  void await(CollectiveHandle& gather);

  ParameterStore& store_;
  Communicator& communicator_;
  bool is_sharded_;
  std::vector<Range> buckets_;
  Shards shards_;                                     // this rank's part of each bucket
  std::vector<int> num_parameters_, num_incomplete_;  // per bucket
  std::vector<CollectiveHandle> reductions_;          // of the buckets started in this step
  // Weights that are being gathered; null: none. Per bucket those of the compute dtype, then those
  // that ops read in full precision.
  std::vector<CollectiveHandle> gathers_;
  std::int64_t num_gathers_ = 0;  // that are not null
};

}  // namespace smoe
