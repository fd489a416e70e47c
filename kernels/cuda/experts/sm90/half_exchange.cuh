// Sends what this block has gathered of a B that both blocks of the cluster share to the other one.
#pragma once
#include "kernels/cuda/experts/sm90/gathered_columns.cuh"

namespace smoe::kernels::cuda::sm90 {

using WeightGradientPipeline = Pipeline<sm90_stages(ExpertGemm::weight_gradient)>;

/// Each warp sends its rows of this block's half of B one k tile late, so that it need not wait for
/// its latest copies. All functions are called by whole warps.
class HalfExchange {
 public:
  static constexpr int kBytes = kStageBytesB / kClusterSize;

  __device__ explicit HalfExchange(const WeightGradientPipeline& pipeline) : pipeline_(pipeline) {}

  /// Once the copies to `stage` are issued: sends the stage before it.
  __device__ void advance(int stage) {
    cp_async_commit();
    cp_async_wait<1>();
    send();
    unsent_ = stage;
  }
  /// Sends the last stage.
  __device__ void finish() const {
    cp_async_wait_all();
    send();
  }

 private:
  // The other block's consumers have emptied the stage there: they, too, arrive at the empty
  // barrier that this block waited for.
  __device__ void send() const {
    if (unsent_ < 0) return;
    fence_proxy_async();
    __syncwarp();
    const int subtile = threadIdx.x % kWarp, rank = cluster_rank();
    if (subtile < 2)
      bulk_copy_to_cluster(pipeline_.tile_b(unsent_) + rank * kBytes + subtile * kSubtileBytes +
                               threadIdx.x % kWarpgroup / kWarp * kRowsPerWarp * kRowBytes,
                           kRowsPerWarp * kRowBytes, pipeline_.full_barrier(unsent_), rank ^ 1);
    __syncwarp();
  }

  const WeightGradientPipeline& pipeline_;
  int unsent_ = -1;  // a stage
};

}  // namespace smoe::kernels::cuda::sm90
