// Host side of the sm_90a expert GEMMs: cluster launch and tensor maps.
#pragma once
#include "kernels/cuda/experts/sm90/pipeline.cuh"
#include "kernels/cuda/experts/sm90/tensor_map.cuh"
#include "kernels/cuda/experts/sm90/tile_counter.cuh"
#include "kernels/cuda/launch.cuh"
#include "kernels/grouped_gemm.h"

namespace smoe::kernels::cuda::sm90 {

/// Launches one persistent block per SM, in clusters of kBlocks. The kernel may start before the
/// stream's preceding one is complete: see follow_preceding_kernel().
template <int kBlocks = kClusterSize, class Args>
void launch_clusters(const Launch& launch, const char* op, void (*kernel)(Args), int shared_bytes,
                     const Args& args) {
  CUDA_CHECK(
      cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, shared_bytes));
  const int blocks = attribute(launch, cudaDevAttrMultiProcessorCount) / kBlocks * kBlocks;
  cudaLaunchAttribute attributes[2];
  attributes[0].id = cudaLaunchAttributeClusterDimension;
  attributes[0].val.clusterDim = {kBlocks, 1, 1};
  attributes[1].id = cudaLaunchAttributeProgrammaticStreamSerialization;
  attributes[1].val.programmaticStreamSerializationAllowed = 1;
  cudaLaunchConfig_t config{};
  config.gridDim = dim3(static_cast<unsigned>(blocks));
  config.blockDim = dim3(kThreads);
  config.dynamicSmemBytes = static_cast<std::size_t>(shared_bytes);
  config.stream = stream_of(launch);
  config.attrs = attributes;
  config.numAttrs = 2;
  if (const cudaError_t code = cudaLaunchKernelEx(&config, kernel, args); code != cudaSuccess)
    throw_cuda_error(op, code, __FILE__, __LINE__);
}

inline std::int64_t stride_bytes(const ConstMatrix& m) {
  return m.stride * size_of(m.dtype);
}

/// Boxes of `box_cols` columns and `box_rows` rows.
inline CUtensorMap matrix_map(const char* op, const ConstMatrix& m, int box_rows,
                              int box_cols = 64) {
  return make_tensor_map(op,
                         {.data = m.data,
                          .dtype = m.dtype,
                          .size = {m.cols, m.rows, 1},
                          .stride = {stride_bytes(m), stride_bytes(m) * m.rows}},
                         {box_cols, box_rows, 1});
}
/// Boxes of `box_cols` columns of one half (of the whole matrix if halves is 1) and 64 rows.
inline CUtensorMap halves_map(const char* op, const ConstMatrix& m, int halves, int box_cols = 64) {
  const std::int64_t cols = m.cols / halves;
  return make_tensor_map(op,
                         {.data = m.data,
                          .dtype = m.dtype,
                          .size = {cols, halves, m.rows},
                          .stride = {cols * size_of(m.dtype), stride_bytes(m)}},
                         {box_cols, 1, 64});
}
/// Boxes of 64 columns and `box_rows` rows of one of the matrices [count, rows, cols].
inline CUtensorMap weight_map(const char* op, const ExpertMatrices& w, std::int64_t count,
                              std::int64_t rows, int box_rows) {
  const std::int64_t bytes = w.cols * size_of(w.dtype);
  return make_tensor_map(op,
                         {.data = w.data,
                          .dtype = w.dtype,
                          .size = {w.cols, rows, count},
                          .stride = {bytes, bytes * rows}},
                         {64, box_rows, 1});
}

/// Calls f with the flag as a compile-time constant.
template <class F>
void dispatch_flag(bool flag, F&& f) {
  flag ? f(std::true_type{}) : f(std::false_type{});
}

}  // namespace smoe::kernels::cuda::sm90
