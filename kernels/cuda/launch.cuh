// Host code that every CUDA kernel is launched with: the stream, device attributes, dispatch over
// storage dtypes and vector widths, launch checks.
#pragma once
#include <cuda_bf16.h>

#include <cstdint>
#include <type_traits>

#include "core/base/check.h"
#include "core/base/cuda.cuh"
#include "core/base/dtype.h"
#include "core/base/launch.h"
#include "core/base/matrix.h"
#include "kernels/ceil_div.h"

namespace smoe::kernels::cuda {

/// Elements that a thread reads or writes per access where rows and pointers allow it: 16 bytes of
/// bf16.
constexpr int kWidth = 8;

inline cudaStream_t stream_of(const Launch& launch) {
  return static_cast<cudaStream_t>(launch.stream);
}

/// An attribute of the launch's device.
inline int attribute(const Launch& launch, cudaDeviceAttr what) {
  int value = 0;
  CUDA_CHECK(cudaDeviceGetAttribute(&value, what, launch.device.index));
  return value;
}

/// Throws: SystemError when the preceding kernel launch failed.
inline void check_launch(const char* kernel) {
  if (const cudaError_t code = cudaGetLastError(); code != cudaSuccess)
    throw_cuda_error(kernel, code, __FILE__, __LINE__);
}

/// target = source on the launch's stream. Both have the same shape and dtype.
inline void copy_matrix(const Launch& launch, const ConstMatrix& source, const Matrix& target) {
  if (source.rows == 0) return;
  const std::int64_t size = size_of(source.dtype);
  CUDA_CHECK(cudaMemcpy2DAsync(target.data, target.stride * size, source.data, source.stride * size,
                               source.cols * size, source.rows, cudaMemcpyDeviceToDevice,
                               stream_of(launch)));
}

/// Calls f(float{}) or f(__nv_bfloat16{}) for the storage dtype and returns its result. Kernels
/// compute in f32; f64 is supported on the CPU only.
/// Throws: UsageError for another dtype.
template <class F>
decltype(auto) dispatch_storage(const char* op, DType dtype, F&& f) {
  SMOE_CHECK(dtype == DType::f32 || dtype == DType::bf16, op,
             ": dtype must be f32 or bf16 on a GPU; got ", name_of(dtype));
  return dtype == DType::f32 ? f(float{}) : f(__nv_bfloat16{});
}

/// Calls f with kWidth as a compile-time constant if `fits`, otherwise with 1.
template <class F>
void dispatch_width(bool fits, F&& f) {
  if (fits)
    f(std::integral_constant<int, kWidth>{});
  else
    f(std::integral_constant<int, 1>{});
}

/// Whether a vector access at `data` is aligned to 16 bytes. Null counts as aligned.
inline bool is_aligned(const void* data) {
  return reinterpret_cast<std::uintptr_t>(data) % 16 == 0;
}
/// Whether every row of m can be accessed kWidth elements at a time. A matrix without data fits.
inline bool fits_width(const ConstMatrix& m) {
  return is_aligned(m.data) && (!m.data || (m.cols % kWidth == 0 && m.stride % kWidth == 0));
}

}  // namespace smoe::kernels::cuda
