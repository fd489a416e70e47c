// From a product's description to its launch. Launch shapes follow from sizes and device alone.
#pragma once
#include <algorithm>

#include "kernels/cuda/grouped/product_config.h"
#include "kernels/cuda/grouped/simt_product.cuh"
#include "kernels/cuda/grouped/tensor_product.cuh"
#include "kernels/cuda/launch.cuh"

namespace smoe::kernels::cuda {

inline DeviceLimits limits_of(const Launch& launch) {
  return {attribute(launch, cudaDevAttrMultiProcessorCount),
          attribute(launch, cudaDevAttrMaxSharedMemoryPerBlockOptin)};
}

/// Calls f(TensorShape{}) for a form on tensor cores; products with a long epilogue have one form.
template <bool kLongEpilogue, class F>
void dispatch_shape(ProductForm form, F&& f) {
  if constexpr (kLongEpilogue)
    f(TensorShape<2, 2, 2, 2>{});
  else
    form == ProductForm::wide ? f(TensorShape<2, 4, 4, 1>{}) : f(TensorShape<2, 2, 2, 2>{});
}

/// As many blocks as the device holds at a time, each of which takes its share of the tiles.
template <class P>
void launch_tensor_product(const Launch& launch, const char* op, const ProductConfig& config,
                           const typename P::Args& args) {
  if (config.max_tiles == 0) return;
  CUDA_CHECK(cudaFuncSetAttribute(tensor_product_kernel<P>,
                                  cudaFuncAttributeMaxDynamicSharedMemorySize, P::kSharedBytes));
  const std::int64_t resident = limits_of(launch).num_multiprocessors * P::Shape::kBlocks;
  const auto blocks = static_cast<unsigned>(std::min(config.max_tiles, resident));
  tensor_product_kernel<P>
      <<<blocks, P::Shape::kThreads, P::kSharedBytes, stream_of(launch)>>>(args);
  check_launch(op);
}

template <class P>
void launch_plain_product(const Launch& launch, const char* op, const ProductConfig& config,
                          const typename P::Args& args) {
  if (config.max_tiles == 0) return;
  constexpr int kResident = 2;
  const std::int64_t resident = limits_of(launch).num_multiprocessors * kResident;
  const auto blocks = static_cast<unsigned>(std::min(config.max_tiles, resident));
  simt_product_kernel<P><<<blocks, kSimtThreads, 0, stream_of(launch)>>>(args);
  check_launch(op);
}

}  // namespace smoe::kernels::cuda
