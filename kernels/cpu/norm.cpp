// RMSNorm, row by row while a row is in cache. With r = inverse_rms and g = dy * weight,
// dx = r (g - x r^2 mean(g x)) and dweight = sum over rows of dy x r.
#include "kernels/norm.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "kernels/ceil_div.h"
#include "kernels/checked_index.h"
#include "kernels/cpu/threads.h"

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

// delta = the sum of token t's rows, rounded as a T.
template <class T, class Acc>
void add_grouped_rows(const RmsNormArgs& args, std::int64_t t, Acc* delta, std::int64_t n) {
  std::fill_n(delta, n, Acc(0));
  for (std::int64_t k = 0; k < args.top_k; ++k) {
    const std::int32_t row = args.grouped_rows[t * args.top_k + k];
    const T* routed = args.delta.row<T>(checked_index(row, args.delta.rows));
#pragma omp simd
    for (std::int64_t j = 0; j < n; ++j) delta[j] += Acc(routed[j]);
  }
#pragma omp simd
  for (std::int64_t j = 0; j < n; ++j) delta[j] = Acc(T(delta[j]));
}

template <class T, class B>
void add_row(const T* a, const B* b, T* sum, std::int64_t n) {
  using Acc = accumulation_t<T>;
#pragma omp simd
  for (std::int64_t j = 0; j < n; ++j) sum[j] = T(Acc(a[j]) + Acc(b[j]));
}

template <class T, class Acc>
void scale_row(const T* x, Acc inverse_rms, const Acc* weight, T* y, std::int64_t n) {
#pragma omp simd
  for (std::int64_t j = 0; j < n; ++j) y[j] = T(Acc(x[j]) * inverse_rms * weight[j]);
}

// dy = the sum of the parts of row t.
template <class T, class Acc>
void add_parts(const GradientParts& parts, std::int64_t t, Acc* dy, std::int64_t n) {
  std::fill_n(dy, n, Acc(0));
  for (std::int64_t k = 0; parts.rows.data && k < parts.top_k; ++k) {
    const std::int32_t row = parts.grouped_rows[t * parts.top_k + k];
    const T* routed = parts.rows.row<T>(checked_index(row, parts.rows.rows));
#pragma omp simd
    for (std::int64_t j = 0; j < n; ++j) dy[j] += Acc(routed[j]);
  }
  if (parts.dense.data) {
    const T* dense = parts.dense.row<T>(t);
#pragma omp simd
    for (std::int64_t j = 0; j < n; ++j) dy[j] += Acc(dense[j]);
  }
  if (!parts.dlogits.data) return;
  const Acc* dlogits = parts.dlogits.row<Acc>(t);
  for (std::int64_t first = 0; first < n; first += kCols) {
    const std::int64_t count = std::min(kCols, n - first);
    Acc sum[kCols] = {};
    for (std::int64_t e = 0; e < parts.weight.rows; ++e) {
      const Acc* weight = parts.weight.row<Acc>(e) + first;
#pragma omp simd
      for (std::int64_t j = 0; j < count; ++j) sum[j] += dlogits[e] * weight[j];
    }
    for (std::int64_t j = 0; j < count; ++j) dy[first + j] += sum[j];
  }
}

// The backward of one row; `G` is T or Acc. `dsum` is null without a residual gradient. Adds the
// row's term of dweight to `partial`.
template <class T, class Acc, class G>
void backward_row(const T* x, Acc inverse_rms, const Acc* weight, const G* dy, const T* dsum, T* dx,
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
template <class Acc, class W>
void add_partials(Acc* partials, std::int64_t num_partials, std::int64_t n, double beta,
                  W* dweight) {
  parallel_blocks(n, kCols, [=](std::int64_t begin, std::int64_t end, int) {
    for (std::int64_t step = 1; step < num_partials; step *= 2)
      for (std::int64_t i = 0; i + step < num_partials; i += 2 * step)
        for (std::int64_t j = begin; j < end; ++j)
          partials[i * n + j] += partials[(i + step) * n + j];
    for (std::int64_t j = begin; j < end; ++j) {
      const Acc sum = num_partials > 0 ? partials[j] : Acc(0);
      dweight[j] = W(beta == 0 ? sum : Acc(beta) * Acc(dweight[j]) + sum);
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
      std::vector<Acc> delta(args.grouped_rows ? n : 0);
      for (std::int64_t i = begin; i < end; ++i) {
        const T* x = args.x.row<T>(i);
        if (args.grouped_rows) {
          add_grouped_rows<T>(args, i, delta.data(), n);
          add_row(x, delta.data(), args.sum.row<T>(i), n);
        } else if (args.delta.data) {
          add_row(x, args.delta.row<T>(i), args.sum.row<T>(i), n);
        }
        if (args.delta.data) x = args.sum.row<T>(i);
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
    const bool is_dense = !args.dy.rows.data && !args.dy.dlogits.data;
    Acc* sums = partials + num_row_blocks(args.x.rows) * n;
    parallel_blocks(args.x.rows, kRows, [&](std::int64_t begin, std::int64_t end, int) {
      Acc* partial = partials + begin / kRows * n;
      std::fill(partial, partial + n, Acc(0));
      const auto run_row = [&](std::int64_t i, const auto* dy) {
        backward_row(args.x.row<T>(i), inverse_rms[i], weight, dy,
                     args.dsum.data ? args.dsum.row<T>(i) : nullptr, args.dx.row<T>(i), partial, n);
      };
      Acc* sum = sums + begin / kRows * n;
      for (std::int64_t i = begin; i < end; ++i) {
        if (is_dense) {
          run_row(i, args.dy.dense.row<T>(i));
        } else {
          add_parts<T>(args.dy, i, sum, n);
          run_row(i, sum);
        }
      }
    });
    if (!args.dweight) return;
    dispatch_floating(args.dweight_dtype, [&](auto weight_type) {
      add_partials(partials, num_row_blocks(args.x.rows), n, args.beta,
                   static_cast<decltype(weight_type)*>(args.dweight));
    });
  });
}

std::int64_t rms_norm_backward_workspace_bytes(const Launch&, const RmsNormBackwardArgs& args) {
  const bool is_dense = !args.dy.rows.data && !args.dy.dlogits.data;
  return (is_dense ? 1 : 2) * num_row_blocks(args.x.rows) * args.x.cols *
         size_of(accumulation_dtype(args.x.dtype));
}

}  // namespace smoe::kernels::cpu
