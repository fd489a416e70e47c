// Counting sort of the routed rows by expert. Each warp counts kRowsOfWarp rows in integers and
// places them after the same expert's rows of earlier warps, so the sort is stable and
// deterministic. No launch configuration depends on the counts.
#include "kernels/cuda/device/checked_index.cuh"
#include "kernels/cuda/launch_following.cuh"
#include "kernels/cuda/routing.cuh"
#include "kernels/routing.h"

namespace smoe::kernels::cuda {
namespace {

constexpr int kRowsOfWarp = 256;

__global__ void group_by_expert_count_kernel(GroupByExpertArgs args) {
  follow_preceding_kernel();
  extern __shared__ std::int32_t shared_counts[];  // [E]
  const auto num_experts = static_cast<int>(args.num_experts);
  for (int e = threadIdx.x; e < num_experts; e += blockDim.x) shared_counts[e] = 0;
  __syncthreads();
  const std::int64_t rows = std::int64_t{blockDim.x} / kWarp * kRowsOfWarp;
  const std::int64_t begin = blockIdx.x * rows;
  const std::int64_t end = std::min(begin + rows, args.num_rows);
  for (std::int64_t i = begin + threadIdx.x; i < end; i += blockDim.x)
    atomicAdd(&shared_counts[checked_index(args.expert_ids[i], num_experts)], 1);
  __syncthreads();
  auto* const counts = static_cast<std::int32_t*>(args.workspace) + blockIdx.x * num_experts;
  for (int e = threadIdx.x; e < num_experts; e += blockDim.x) counts[e] = shared_counts[e];
}

/// The inclusive prefix sum of x over the lanes of a warp.
__device__ std::int32_t scan_warp(std::int32_t x) {
#pragma unroll
  for (int distance = 1; distance < kWarp; distance *= 2) {
    const std::int32_t before = __shfl_up_sync(~0u, x, distance);
    if (lane_id() >= distance) x += before;
  }
  return x;
}

/// A warp replaces one expert's counts per block by their exclusive prefix sum over the blocks, and
/// writes the total to the next expert's offset.
__global__ void __launch_bounds__(kWarp)
    group_by_expert_scan_blocks_kernel(GroupByExpertArgs args, int num_blocks) {
  follow_preceding_kernel();
  auto* const counts = static_cast<std::int32_t*>(args.workspace) + blockIdx.x;
  std::int32_t before = 0;
  for (int first = 0; first < num_blocks; first += kWarp) {
    const int block = first + lane_id();
    const std::int64_t at = block * args.num_experts;
    const std::int32_t count = block < num_blocks ? counts[at] : 0;
    const std::int32_t sum = scan_warp(count);
    if (block < num_blocks) counts[at] = before + sum - count;
    before += __shfl_sync(~0u, sum, kWarp - 1);
  }
  if (lane_id() == 0) args.expert_offsets[blockIdx.x + 1] = before;
}

/// Replaces rows per expert by offsets, in one warp.
__global__ void __launch_bounds__(kWarp)
    group_by_expert_scan_experts_kernel(std::int32_t* expert_offsets, int num_experts) {
  follow_preceding_kernel();
  std::int32_t before = 0;
  for (int first = 0; first < num_experts; first += kWarp) {
    const int e = first + lane_id();
    const std::int32_t sum = scan_warp(e < num_experts ? expert_offsets[e + 1] : 0);
    if (e < num_experts) expert_offsets[e + 1] = before + sum;
    before += __shfl_sync(~0u, sum, kWarp - 1);
  }
  if (lane_id() == 0) expert_offsets[0] = 0;
}

/// Each warp counts its rows per expert, reads their first positions, and places 32 rows at a time:
/// a row after those of the same expert on lower lanes, so that the sort is stable.
__global__ void group_by_expert_scatter_kernel(GroupByExpertArgs args) {
  follow_preceding_kernel();
  extern __shared__ std::int32_t next_rows[];  // [warps, E]
  const auto num_experts = static_cast<int>(args.num_experts);
  const int warps = blockDim.x / kWarp, warp = threadIdx.x / kWarp;
  std::int32_t* const next = next_rows + warp * num_experts;
  for (int e = lane_id(); e < num_experts; e += kWarp) next[e] = 0;
  __syncwarp();
  const std::int64_t begin = (std::int64_t{blockIdx.x} * warps + warp) * kRowsOfWarp;
  const std::int64_t end = std::min(begin + kRowsOfWarp, args.num_rows);
  for (std::int64_t i = begin + lane_id(); i < end; i += kWarp)
    atomicAdd(&next[checked_index(args.expert_ids[i], num_experts)], 1);
  __syncthreads();
  const auto* const rows_before =
      static_cast<const std::int32_t*>(args.workspace) + blockIdx.x * num_experts;
  for (int e = threadIdx.x; e < num_experts; e += blockDim.x) {
    std::int32_t row = args.expert_offsets[e] + rows_before[e];
    for (int w = 0; w < warps; ++w) {
      const std::int32_t count = next_rows[w * num_experts + e];
      next_rows[w * num_experts + e] = row;
      row += count;
    }
  }
  __syncthreads();
  for (std::int64_t first = begin; first < end; first += kWarp) {
    const std::int64_t i = first + lane_id();
    const unsigned active = __ballot_sync(~0u, i < end);
    if (i < end) {
      const std::int32_t expert = args.expert_ids[i];
      const unsigned same = __match_any_sync(active, expert);
      const int rank = __popc(same & ((1u << lane_id()) - 1));
      const std::int32_t row = next[expert] + rank;
      __syncwarp(active);
      if (rank == 0) next[expert] += __popc(same);
      args.sorted_scattered_ids[row] = static_cast<std::int32_t>(i);
      args.grouped_rows[i] = row;
    }
    __syncwarp();
  }
}

int sort_warps(std::int64_t num_experts) {
  return warps_for("group_by_expert", num_experts * std::int64_t{sizeof(std::int32_t)},
                   num_experts);
}

std::int64_t sort_blocks(const GroupByExpertArgs& args) {
  return ceil_div(args.num_rows, sort_warps(args.num_experts) * kRowsOfWarp);
}

}  // namespace

std::int64_t group_by_expert_workspace_bytes(const Launch&, const GroupByExpertArgs& args) {
  return sort_blocks(args) * args.num_experts * std::int64_t{sizeof(std::int32_t)};
}

void group_by_expert(const Launch& launch, const GroupByExpertArgs& args) {
  const auto blocks = static_cast<unsigned>(sort_blocks(args));
  const auto num_experts = static_cast<unsigned>(args.num_experts);
  const int warps = sort_warps(args.num_experts);
  const std::size_t counts_bytes = args.num_experts * sizeof(std::int32_t);
  const cudaStream_t stream = stream_of(launch);
  if (blocks > 0)
    launch_following<group_by_expert_count_kernel>(launch, {blocks, warps * kWarp, counts_bytes},
                                                   args);
  launch_following<group_by_expert_scan_blocks_kernel>(launch, {num_experts, kWarp}, args,
                                                       static_cast<int>(blocks));
  launch_following<group_by_expert_scan_experts_kernel>(launch, {1, kWarp}, args.expert_offsets,
                                                        static_cast<int>(num_experts));
  if (blocks > 0)
    launch_following<group_by_expert_scatter_kernel>(
        launch, {blocks, warps * kWarp, warps * counts_bytes}, args);
}

}  // namespace smoe::kernels::cuda
