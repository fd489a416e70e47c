// Flat loops: a thread processes kWidth elements with vector accesses, a tail element by element.
#include "kernels/elementwise.h"

#include <algorithm>
#include <initializer_list>

#include "core/base/normal.h"
#include "core/base/philox.h"
#include "kernels/cuda/device/vector.cuh"
#include "kernels/cuda/launch.cuh"

namespace smoe::kernels::cuda {
namespace {

constexpr int kThreads = 256;

// Body::run<N>(i) processes elements [i, i + N). The profiler shows Body as a template argument.
template <int N, class Body>
__global__ void __launch_bounds__(kThreads) elementwise_kernel(std::int64_t numel, Body body) {
  const std::int64_t i = (std::int64_t{blockIdx.x} * kThreads + threadIdx.x) * N;
  if (i + N <= numel) {
    body.template run<N>(i);
  } else {
    for (std::int64_t j = i; j < numel; ++j) body.template run<1>(j);
  }
}

template <class Body>
void run(const Launch& launch, const char* op, std::int64_t numel,
         std::initializer_list<const void*> arrays, const Body& body) {
  if (numel == 0) return;
  dispatch_width(std::all_of(arrays.begin(), arrays.end(), is_aligned), [&](auto width) {
    constexpr int N = width;
    const auto blocks = static_cast<unsigned>(ceil_div(numel, N * kThreads));
    elementwise_kernel<N><<<blocks, kThreads, 0, stream_of(launch)>>>(numel, body);
    check_launch(op);
  });
}

template <class T>
struct Add {
  const T *a, *b;
  T* sum;

  template <int N>
  __device__ void run(std::int64_t i) const {
    float x[N], y[N];
    load(a + i, x);
    load(b + i, y);
    for (int j = 0; j < N; ++j) x[j] += y[j];
    store(sum + i, x);
  }
};

template <class S, class T>
struct Scale {
  const S* source;
  T* target;
  float factor, beta;

  template <int N>
  __device__ void run(std::int64_t i) const {
    float x[N], before[N];
    load(source + i, x);
    for (int j = 0; j < N; ++j) x[j] *= factor;
    if (beta != 0) {
      load(target + i, before);
      for (int j = 0; j < N; ++j) x[j] += beta * before[j];
    }
    store(target + i, x);
  }
};

template <class T>
struct Fill {
  T* target;
  float value;

  template <int N>
  __device__ void run(std::int64_t i) const {
    float x[N];
    for (int j = 0; j < N; ++j) x[j] = value;
    store(target + i, x);
  }
};

// target[i] = std * normal `first` + i of the Philox stream, for an even `first`.
template <class T>
struct FillNormal {
  T* target;
  PhiloxStream stream;
  double std;
  std::int64_t first;

  template <int N>
  __device__ void run(std::int64_t i) const {
    float x[N];
    for (int j = 0; j < N; j += 2) {
      const NormalPair pair = normal_pair(stream.block((first + i + j) / 2));
      if constexpr (N == 1) {
        x[0] = scaled(i % 2 == 0 ? pair.first : pair.second);
      } else {
        x[j] = scaled(pair.first);
        x[j + 1] = scaled(pair.second);
      }
    }
    store(target + i, x);
  }
  __device__ float scaled(double z) const { return static_cast<float>(__dmul_rn(std, z)); }
};

// target[i] = f(source[i], word i of the Philox stream).
template <class T, class F>
struct MapWithWords {
  const T* source;
  T* target;
  PhiloxStream stream;
  F f;

  template <int N>
  __device__ void run(std::int64_t i) const {
    float x[N];
    load(source + i, x);
    for (int j = 0; j < N; ++j) {
      const std::int64_t at = i + j;
      x[j] = f(x[j], stream.block(at / 4)[at % 4]);
    }
    store(target + i, x);
  }
};

struct Jitter {
  double epsilon;
  __device__ float operator()(float x, std::uint32_t word) const {
    return x * static_cast<float>(1 - epsilon + 2 * epsilon * (word * 0x1p-32));
  }
};

struct Dropout {
  std::uint32_t threshold;
  float factor;
  __device__ float operator()(float x, std::uint32_t word) const {
    return word < threshold ? 0.0f : x * factor;
  }
};

template <class Args, class F>
void map_with_words(const Launch& launch, const char* op, const Args& args, const F& f) {
  dispatch_storage(op, args.dtype, [&](auto type) {
    using T = decltype(type);
    run(launch, op, args.numel, {args.source, args.target},
        MapWithWords<T, F>{static_cast<const T*>(args.source), static_cast<T*>(args.target),
                           PhiloxStream(args.seed, args.a, args.b), f});
  });
}

// Scalars by address, passed as kernel arguments, kMaxScalars at a time.
constexpr int kMaxScalars = 128;
struct Scalars {
  const float* scalar[kMaxScalars];
  double weight[kMaxScalars];
  int count = 0;
};

__global__ void __launch_bounds__(kMaxScalars)
    weighted_sum_kernel(__grid_constant__ const Scalars scalars, float* sum, bool is_first) {
  __shared__ float terms[kMaxScalars];
  const int i = threadIdx.x;
  if (i < scalars.count)
    terms[i] = __fmul_rn(static_cast<float>(scalars.weight[i]), *scalars.scalar[i]);
  __syncthreads();
  if (i > 0) return;
  float total = is_first ? terms[0] : __fadd_rn(*sum, terms[0]);
  for (int j = 1; j < scalars.count; ++j) total = __fadd_rn(total, terms[j]);
  *sum = total;
}

__global__ void __launch_bounds__(kMaxScalars)
    gather_scalars_kernel(__grid_constant__ const Scalars scalars, double* values) {
  const int i = threadIdx.x;
  if (i < scalars.count) values[i] = scalars.weight[i] * double(*scalars.scalar[i]);
}

// Calls f(table, index of its first scalar) for every kMaxScalars of them.
template <class F>
void for_each_table(const char* op, DType dtype, std::span<const void* const> scalars,
                    std::span<const double> weights, const F& f) {
  SMOE_CHECK(dtype == DType::f32, op, ": dtype must be f32 on a GPU; got ", name_of(dtype));
  for (std::size_t done = 0; done < scalars.size(); done += kMaxScalars) {
    Scalars table{};
    for (std::size_t i = done; i < std::min(scalars.size(), done + kMaxScalars); ++i) {
      table.scalar[table.count] = static_cast<const float*>(scalars[i]);
      table.weight[table.count++] = weights[i];
    }
    f(table, done);
    check_launch(op);
  }
}

template <class T>
struct ScaleBy {
  const T* source;
  T* target;
  const float* scalar;
  float factor;

  template <int N>
  __device__ void run(std::int64_t i) const {
    const float scale = factor * *scalar;
    float x[N];
    if (source) load(source + i, x);
    for (int j = 0; j < N; ++j) x[j] = source ? scale * x[j] : scale;
    store(target + i, x);
  }
};

template <class T>
struct SquaredDifference {
  const T *a, *b;
  float* squares;

  template <int N>
  __device__ void run(std::int64_t i) const {
    float x[N], y[N];
    load(a + i, x);
    load(b + i, y);
    for (int j = 0; j < N; ++j) x[j] = (x[j] - y[j]) * (x[j] - y[j]);
    store(squares + i, x);
  }
};

template <class T>
struct ScaledDifference {
  const T *a, *b;
  T* difference;
  float factor;

  template <int N>
  __device__ void run(std::int64_t i) const {
    float x[N], y[N];
    load(a + i, x);
    load(b + i, y);
    for (int j = 0; j < N; ++j) x[j] = factor * (x[j] - y[j]);
    store(difference + i, x);
  }
};

}  // namespace

void weighted_sum(const Launch& launch, const WeightedSumArgs& args) {
  for_each_table("weighted_sum", args.dtype, args.scalars, args.weights,
                 [&](const Scalars& table, std::size_t first) {
                   weighted_sum_kernel<<<1, kMaxScalars, 0, stream_of(launch)>>>(
                       table, static_cast<float*>(args.sum), first == 0);
                 });
}

void gather_scalars(const Launch& launch, const GatherScalarsArgs& args) {
  for_each_table("gather_scalars", args.dtype, args.scalars, args.weights,
                 [&](const Scalars& table, std::size_t first) {
                   gather_scalars_kernel<<<1, kMaxScalars, 0, stream_of(launch)>>>(
                       table, args.values + first);
                 });
}

void add(const Launch& launch, const AddArgs& args) {
  dispatch_storage("add", args.dtype, [&](auto type) {
    using T = decltype(type);
    run(launch, "add", args.numel, {args.a, args.b, args.sum},
        Add<T>{static_cast<const T*>(args.a), static_cast<const T*>(args.b),
               static_cast<T*>(args.sum)});
  });
}

void scale(const Launch& launch, const ScaleArgs& args) {
  dispatch_storage("scale", args.source_dtype, [&](auto source_type) {
    dispatch_storage("scale", args.target_dtype, [&](auto target_type) {
      using S = decltype(source_type);
      using T = decltype(target_type);
      run(launch, "scale", args.numel, {args.source, args.target},
          Scale<S, T>{static_cast<const S*>(args.source), static_cast<T*>(args.target),
                      static_cast<float>(args.scale), static_cast<float>(args.beta)});
    });
  });
}

void fill(const Launch& launch, const FillArgs& args) {
  dispatch_storage("fill", args.dtype, [&](auto type) {
    using T = decltype(type);
    run(launch, "fill", args.numel, {args.target},
        Fill<T>{static_cast<T*>(args.target), static_cast<float>(args.value)});
  });
}

void fill_normal(const Launch& launch, const FillNormalArgs& args) {
  dispatch_storage("fill_normal", args.dtype, [&](auto type) {
    using T = decltype(type);
    run(launch, "fill_normal", args.numel, {args.target},
        FillNormal<T>{static_cast<T*>(args.target), PhiloxStream(args.seed, args.a, args.b),
                      args.std, args.first});
  });
}

void jitter(const Launch& launch, const JitterArgs& args) {
  map_with_words(launch, "jitter", args, Jitter{args.epsilon});
}

void dropout(const Launch& launch, const DropoutArgs& args) {
  map_with_words(launch, "dropout", args,
                 Dropout{static_cast<std::uint32_t>(args.probability * 0x1p32),
                         static_cast<float>(1 / (1 - args.probability))});
}

void scale_by(const Launch& launch, const ScaleByArgs& args) {
  dispatch_storage("scale_by", args.dtype, [&](auto type) {
    using T = decltype(type);
    run(launch, "scale_by", args.numel, {args.source, args.target},
        ScaleBy<T>{static_cast<const T*>(args.source), static_cast<T*>(args.target),
                   static_cast<const float*>(args.scalar), static_cast<float>(args.factor)});
  });
}

void squared_difference(const Launch& launch, const SquaredDifferenceArgs& args) {
  dispatch_storage("squared_difference", args.dtype, [&](auto type) {
    using T = decltype(type);
    run(launch, "squared_difference", args.numel, {args.a, args.b, args.squares},
        SquaredDifference<T>{static_cast<const T*>(args.a), static_cast<const T*>(args.b),
                             static_cast<float*>(args.squares)});
  });
}

void scaled_difference(const Launch& launch, const ScaledDifferenceArgs& args) {
  dispatch_storage("scaled_difference", args.dtype, [&](auto type) {
    using T = decltype(type);
    run(launch, "scaled_difference", args.numel, {args.a, args.b, args.difference},
        ScaledDifference<T>{static_cast<const T*>(args.a), static_cast<const T*>(args.b),
                            static_cast<T*>(args.difference), static_cast<float>(args.factor)});
  });
}

}  // namespace smoe::kernels::cuda
