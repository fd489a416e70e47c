#include "kernels/cuda/experts/sm90/tensor_map.cuh"

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

}  // namespace

CUtensorMap make_tensor_map(const char* op, const TensorView& view, const int (&box)[3]) {
  cuuint64_t size[3], stride[2];
  cuuint32_t boxes[3];
  const cuuint32_t steps[3] = {1, 1, 1};
  for (int i = 0; i < 3; ++i) {
    size[i] = static_cast<cuuint64_t>(view.size[i]);
    boxes[i] = static_cast<cuuint32_t>(box[i]);
  }
  for (int i = 0; i < 2; ++i) stride[i] = static_cast<cuuint64_t>(view.stride[i]);
  CUtensorMap map;
  const CUresult result =
      encode_tiled()(&map,
                     view.dtype == DType::bf16 ? CU_TENSOR_MAP_DATA_TYPE_BFLOAT16
                                               : CU_TENSOR_MAP_DATA_TYPE_FLOAT32,
                     3, const_cast<void*>(view.data), size, stride, boxes, steps,
                     CU_TENSOR_MAP_INTERLEAVE_NONE, CU_TENSOR_MAP_SWIZZLE_128B,
                     CU_TENSOR_MAP_L2_PROMOTION_L2_256B, CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE);
  if (result != CUDA_SUCCESS)
    throw SystemError(concat(op, ": the driver rejected a tensor map of [", view.size[2], ", ",
                             view.size[1], ", ", view.size[0], "]: error ",
                             static_cast<int>(result)));
  return map;
}

}  // namespace smoe::kernels::cuda::sm90
