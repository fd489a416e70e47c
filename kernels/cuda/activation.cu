// A thread takes a few columns of a row.
#include "kernels/activation.h"

#include "kernels/cuda/device/activation_functions.cuh"
#include "kernels/cuda/device/vector.cuh"
#include "kernels/cuda/launch.cuh"

namespace smoe::kernels::cuda {
namespace {

constexpr int kThreads = 256;

template <int N, class T, bool kIsGated>
__global__ void __launch_bounds__(kThreads) activation_forward_kernel(ActivationArgs args) {
  const std::int64_t cols = args.a.cols, chunks = cols / N;
  const std::int64_t i = std::int64_t{blockIdx.x} * kThreads + threadIdx.x;
  if (i >= args.a.rows * chunks) return;
  const std::int64_t row = i / chunks, col = i % chunks * N;
  const T* const h = static_cast<const T*>(args.h.data) + row * args.h.stride + col;
  float glu[N], up[N] = {}, a[N];
  load(h, glu);
  if (kIsGated) load(h + cols, up);
  dispatch_function<kIsGated>(args.kind, [&](auto function) {
#pragma unroll
    for (int n = 0; n < N; ++n)
      a[n] = activate<T, decltype(function), kIsGated>(glu[n], up[n], 1.0f);
  });
  store(static_cast<T*>(args.a.data) + row * args.a.stride + col, a);
}

template <int N, class T, bool kIsGated>
__global__ void __launch_bounds__(kThreads)
    activation_backward_kernel(ActivationBackwardArgs args) {
  const std::int64_t cols = args.da.cols, chunks = cols / N;
  const std::int64_t i = std::int64_t{blockIdx.x} * kThreads + threadIdx.x;
  if (i >= args.da.rows * chunks) return;
  const std::int64_t row = i / chunks, col = i % chunks * N;
  const T* const h = static_cast<const T*>(args.h.data) + row * args.h.stride + col;
  float glu[N], up[N] = {}, da[N];
  load(h, glu);
  if (kIsGated) load(h + cols, up);
  load(static_cast<const T*>(args.da.data) + row * args.da.stride + col, da);
  dispatch_function<kIsGated>(args.kind, [&](auto function) {
#pragma unroll
    for (int n = 0; n < N; ++n) {
      const auto gradient =
          activate_backward<T, decltype(function), kIsGated>(glu[n], up[n], 1.0f, da[n]);
      glu[n] = gradient.dglu;
      up[n] = gradient.dup;
    }
  });
  T* const dh = static_cast<T*>(args.dh.data) + row * args.dh.stride + col;
  store(dh, glu);
  if (kIsGated) store(dh + cols, up);
}

// f(width, type, is_gated) as constants; nothing for no elements.
template <class F>
void dispatch_kernel(const char* op, Activation kind, DType dtype, bool fits, F&& f) {
  dispatch_storage(op, dtype, [&](auto type) {
    dispatch_width(fits, [&](auto width) {
      is_gated(kind) ? f(width, type, std::true_type{}) : f(width, type, std::false_type{});
    });
  });
}

unsigned blocks_for(std::int64_t threads) {
  return static_cast<unsigned>(ceil_div(threads, kThreads));
}

}  // namespace

void activation_forward(const Launch& launch, const ActivationArgs& args) {
  const std::int64_t size = args.a.rows * args.a.cols;
  if (size == 0) return;
  const bool fits = fits_width(args.h) && fits_width(args.a);
  dispatch_kernel("activation_forward", args.kind, args.h.dtype, fits,
                  [&](auto width, auto type, auto gated) {
                    activation_forward_kernel<width, decltype(type), gated>
                        <<<blocks_for(size / width), kThreads, 0, stream_of(launch)>>>(args);
                  });
  check_launch("activation_forward");
}

void activation_backward(const Launch& launch, const ActivationBackwardArgs& args) {
  const std::int64_t size = args.da.rows * args.da.cols;
  if (size == 0) return;
  const bool fits = fits_width(args.h) && fits_width(args.da) && fits_width(args.dh);
  dispatch_kernel("activation_backward", args.kind, args.h.dtype, fits,
                  [&](auto width, auto type, auto gated) {
                    activation_backward_kernel<width, decltype(type), gated>
                        <<<blocks_for(size / width), kThreads, 0, stream_of(launch)>>>(args);
                  });
  check_launch("activation_backward");
}

}  // namespace smoe::kernels::cuda
