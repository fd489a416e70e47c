#include "kernels/cuda/experts/sm90/tensor_map.cuh"

#include <algorithm>

#include "core/base/check.h"
#include "core/base/cuda.cuh"

namespace smoe::kernels::cuda::sm90 {
namespace {

// Resolved from the driver at run time, so that a program without a GPU does not link against it.
decltype(&cuTensorMapEncodeTiled) encode_tiled() {
  static const auto function = [] {
    void* found = nullptr;
    cudaDriverEntryPointQueryResult result;
    CUDA_CHECK(cudaGetDriverEntryPointByVersion("cuTensorMapEncodeTiled", &found, 12000,
                                                cudaEnableDefault, &result));
    if (result != cudaDriverEntryPointSuccess)
      throw SystemError("cuda: the driver has no cuTensorMapEncodeTiled; smoe needs 12.0 or newer");
    return reinterpret_cast<decltype(&cuTensorMapEncodeTiled)>(found);
  }();
  return function;
}

template <int kDims>
CUtensorMap encode(const char* op, const void* data, DType dtype, const cuuint64_t (&size)[kDims],
                   const cuuint64_t (&stride)[kDims - 1], const cuuint32_t (&box)[kDims]) {
  cuuint32_t steps[kDims];
  std::fill_n(steps, kDims, 1);
  const auto swizzle =
      box[0] * size_of(dtype) == 64 ? CU_TENSOR_MAP_SWIZZLE_64B : CU_TENSOR_MAP_SWIZZLE_128B;
  CUtensorMap map;
  const CUresult result = encode_tiled()(
      &map,
      dtype == DType::bf16 ? CU_TENSOR_MAP_DATA_TYPE_BFLOAT16 : CU_TENSOR_MAP_DATA_TYPE_FLOAT32,
      kDims, const_cast<void*>(data), size, stride, box, steps, CU_TENSOR_MAP_INTERLEAVE_NONE,
      swizzle, CU_TENSOR_MAP_L2_PROMOTION_L2_256B, CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE);
  if (result != CUDA_SUCCESS)
    throw SystemError(concat(op, ": the driver rejected a tensor map of [", size[2], ", ", size[1],
                             ", ", size[0], "]: error ", static_cast<int>(result)));
  return map;
}

}  // namespace

CUtensorMap make_tensor_map(const char* op, const TensorView& view, const int (&box)[3]) {
  cuuint64_t size[3], stride[2];
  cuuint32_t boxes[3];
  for (int i = 0; i < 3; ++i) {
    size[i] = static_cast<cuuint64_t>(view.size[i]);
    boxes[i] = static_cast<cuuint32_t>(box[i]);
  }
  for (int i = 0; i < 2; ++i) stride[i] = static_cast<cuuint64_t>(view.stride[i]);
  return encode(op, view.data, view.dtype, size, stride, boxes);
}

CUtensorMap make_ragged_map(const char* op, const void* data, std::int64_t rows, std::int64_t cols,
                            std::int64_t row_bytes) {
  constexpr cuuint64_t kOrigin = kRaggedOrigin;
  constexpr cuuint64_t kWrap = cuuint64_t{1} << 34;
  static_assert(kWrap * kOrigin == 0);  // modulo 2^64
  const auto bytes = static_cast<cuuint64_t>(row_bytes);
  return encode(
      op, data, DType::bf16,
      {static_cast<cuuint64_t>(cols), kOrigin, static_cast<cuuint64_t>(rows) + 1, kOrigin + 1},
      {bytes, bytes, kWrap - bytes}, {64, 64, 1, 1});
}

}  // namespace smoe::kernels::cuda::sm90
