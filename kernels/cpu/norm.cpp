// RMSNorm, row by row while a row is in cache. With r = inverse_rms and g = dy * weight,
// dx = r (g - x r^2 mean(g x)) and dweight = sum over rows of dy x r.
#include "kernels/norm.h"

#include <algorithm>
#include <cmath>

#include "kernels/ceil_div.h"
#include "kernels/cpu/thread_pool.h"

namespace smoe::kernels::cpu {
namespace {

constexpr std::int64_t kRows = 64;  // rows per task, and per partial sum of dweight
constexpr std::int64_t kCols = 64;  // columns per task that reduces the partial sums

std::int64_t num_row_blocks(std::int64_t rows) {
  return ceil_div(rows, kRows);
}

template <class T, class Acc>
Acc sum_of_squares(const T* x, std::int64_t n) {
  Acc sum = 0;
#pragma omp simd reduction(+ : sum)
  for (std::int64_t j = 0; j < n; ++j) sum += Acc(x[j]) * Acc(x[j]);
  return sum;
}

template <class T>
void add_row(const T* a, const T* b, T* sum, std::int64_t n) {
  using Acc = accumulation_t<T>;
#pragma omp simd
  for (std::int64_t j = 0; j < n; ++j) sum[j] = T(Acc(a[j]) + Acc(b[j]));
}

template <class T, class Acc>
void scale_row(const T* x, Acc inverse_rms, const Acc* weight, T* y, std::int64_t n) {
#pragma omp simd
  for (std::int64_t j = 0; j < n; ++j) y[j] = T(Acc(x[j]) * inverse_rms * weight[j]);
}

// The backward of one row. `dsum` is null without a residual gradient. Adds the row's term of
// dweight to `partial`.
template <class T, class Acc>
void backward_row(const T* x, Acc inverse_rms, const Acc* weight, const T* dy, const T* dsum, T* dx,
                  Acc* partial, std::int64_t n) {
  Acc dot = 0;
#pragma omp simd reduction(+ : dot)
  for (std::int64_t j = 0; j < n; ++j) dot += Acc(dy[j]) * weight[j] * Acc(x[j]);
  const Acc shrink = inverse_rms * inverse_rms * dot / Acc(n);
#pragma omp simd
  for (std::int64_t j = 0; j < n; ++j) {
    const Acc x_j = Acc(x[j]), dy_j = Acc(dy[j]);
    partial[j] += dy_j * x_j * inverse_rms;
    const Acc residual = dsum ? Acc(dsum[j]) : Acc(0);
    dx[j] = T(residual + inverse_rms * (dy_j * weight[j] - x_j * shrink));
  }
}

// dweight = beta dweight + sum of the partial rows, by a binary tree whose shape depends only on
// their number.
template <class Acc>
void add_partials(Acc* partials, std::int64_t num_partials, std::int64_t n, double beta,
                  Acc* dweight) {
  parallel_blocks(n, kCols, [=](std::int64_t begin, std::int64_t end, int) {
    for (std::int64_t step = 1; step < num_partials; step *= 2)
      for (std::int64_t i = 0; i + step < num_partials; i += 2 * step)
        for (std::int64_t j = begin; j < end; ++j)
          partials[i * n + j] += partials[(i + step) * n + j];
    for (std::int64_t j = begin; j < end; ++j) {
      const Acc sum = num_partials > 0 ? partials[j] : Acc(0);
      dweight[j] = beta == 0 ? sum : Acc(beta) * dweight[j] + sum;
    }
  });
}

}  // namespace

void rms_norm(const Launch&, const RmsNormArgs& args) {
  dispatch_floating(args.x.dtype, [&](auto type) {
    using T = decltype(type);
    using Acc = accumulation_t<T>;
    const std::int64_t n = args.x.cols;
    const Acc* weight = static_cast<const Acc*>(args.weight);
    Acc* inverse_rms = static_cast<Acc*>(args.inverse_rms);
    parallel_blocks(args.x.rows, kRows, [&](std::int64_t begin, std::int64_t end, int) {
      for (std::int64_t i = begin; i < end; ++i) {
        const T* x = args.x.row<T>(i);
        if (args.delta.data) {
          add_row(x, args.delta.row<T>(i), args.sum.row<T>(i), n);
          x = args.sum.row<T>(i);
        }
        const Acc mean = sum_of_squares<T, Acc>(x, n) / Acc(n);
        inverse_rms[i] = Acc(1) / std::sqrt(mean + Acc(args.epsilon));
        scale_row(x, inverse_rms[i], weight, args.y.row<T>(i), n);
      }
    });
  });
}

void rms_norm_backward(const Launch&, const RmsNormBackwardArgs& args) {
  dispatch_floating(args.x.dtype, [&](auto type) {
    using T = decltype(type);
    using Acc = accumulation_t<T>;
    const std::int64_t n = args.x.cols;
    const Acc* weight = static_cast<const Acc*>(args.weight);
    const Acc* inverse_rms = static_cast<const Acc*>(args.inverse_rms);
    Acc* partials = static_cast<Acc*>(args.workspace);
    parallel_blocks(args.x.rows, kRows, [&](std::int64_t begin, std::int64_t end, int) {
      Acc* partial = partials + begin / kRows * n;
      std::fill(partial, partial + n, Acc(0));
      for (std::int64_t i = begin; i < end; ++i)
        backward_row(args.x.row<T>(i), inverse_rms[i], weight, args.dy.row<T>(i),
                     args.dsum.data ? args.dsum.row<T>(i) : nullptr, args.dx.row<T>(i), partial, n);
    });
    add_partials(partials, num_row_blocks(args.x.rows), n, args.beta,
                 static_cast<Acc*>(args.dweight));
  });
}

std::int64_t rms_norm_backward_workspace_bytes(const Launch&, const RmsNormBackwardArgs& args) {
  return num_row_blocks(args.x.rows) * args.x.cols * size_of(accumulation_dtype(args.x.dtype));
}

}  // namespace smoe::kernels::cpu
