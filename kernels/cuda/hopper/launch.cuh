// What the products of compute capability 9.0 share on the host.
#pragma once
#include <algorithm>
#include <initializer_list>

#include "kernels/cuda/hopper/pipeline.cuh"
#include "kernels/cuda/hopper/products.h"
#include "kernels/cuda/hopper/tensor_map.h"
#include "kernels/cuda/launch.cuh"

namespace smoe::kernels::cuda::hopper {

/// Whether there is something to do for such a GPU, in arrays that TMA can read: bf16, whole
/// 16-byte chunks.
inline bool takes(const Launch& launch, const RoutingView& routing, DType dtype,
                  std::initializer_list<ConstMatrix> arrays) {
  return is_enabled() && dtype == DType::bf16 && routing.num_rows() > 0 &&
         routing.num_experts <= kMaxExperts &&
         std::all_of(
             arrays.begin(), arrays.end(),
             [](const ConstMatrix& m) { return fits_width(m) && (!m.data || m.cols > 0); }) &&
         attribute(launch, cudaDevAttrComputeCapabilityMajor) == 9 &&
         attribute(launch, cudaDevAttrComputeCapabilityMinor) == 0;
}

/// Starts one block a multiprocessor, in clusters.
template <class Args>
void launch_clusters(const Launch& launch, const char* op, void (*kernel)(Args), int shared_bytes,
                     const Args& args) {
  CUDA_CHECK(
      cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, shared_bytes));
  const int blocks =
      attribute(launch, cudaDevAttrMultiProcessorCount) / kClusterSize * kClusterSize;
  cudaLaunchAttribute cluster;
  cluster.id = cudaLaunchAttributeClusterDimension;
  cluster.val.clusterDim = {kClusterSize, 1, 1};
  cudaLaunchConfig_t config{};
  config.gridDim = dim3(static_cast<unsigned>(blocks));
  config.blockDim = dim3(kThreads);
  config.dynamicSmemBytes = static_cast<std::size_t>(shared_bytes);
  config.stream = stream_of(launch);
  config.attrs = &cluster;
  config.numAttrs = 1;
  if (const cudaError_t code = cudaLaunchKernelEx(&config, kernel, args); code != cudaSuccess)
    throw_cuda_error(op, code, __FILE__, __LINE__);
}

inline std::int64_t bytes_of(const ConstMatrix& m) {
  return m.stride * size_of(m.dtype);
}

/// Boxes of 64 columns and `box_rows` rows.
inline CUtensorMap map_of(const char* op, const ConstMatrix& m, int box_rows) {
  return tensor_map(op, {m.data, m.dtype, {m.cols, m.rows, 1}, {bytes_of(m), bytes_of(m) * m.rows}},
                    {64, box_rows, 1});
}
/// Boxes of 64 columns of one half (or of all, with one half) and 64 rows.
inline CUtensorMap map_of_halves(const char* op, const ConstMatrix& m, int halves) {
  const std::int64_t cols = m.cols / halves;
  return tensor_map(
      op, {m.data, m.dtype, {cols, halves, m.rows}, {cols * size_of(m.dtype), bytes_of(m)}},
      {64, 1, 64});
}
/// Boxes of 64 columns and `box_rows` rows of one matrix of [count, rows, cols].
inline CUtensorMap map_of_weights(const char* op, const void* data, DType dtype, std::int64_t count,
                                  std::int64_t rows, std::int64_t cols, int box_rows) {
  const std::int64_t bytes = cols * size_of(dtype);
  return tensor_map(op, {data, dtype, {cols, rows, count}, {bytes, bytes * rows}},
                    {64, box_rows, 1});
}

}  // namespace smoe::kernels::cuda::hopper
