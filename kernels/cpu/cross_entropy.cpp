// Three passes over each row of logits while it is in cache: maximum, sum of exponentials and, if
// requested, gradient.
#include "kernels/cross_entropy.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "kernels/checked_index.h"
#include "kernels/cpu/math.h"
#include "kernels/cpu/threads.h"

namespace smoe::kernels::cpu {
namespace {

constexpr std::int64_t kRows = 16;

template <class T, class Acc>
Acc maximum_of(const T* row, std::int64_t n) {
  Acc maximum = -std::numeric_limits<Acc>::infinity();
#pragma omp simd reduction(max : maximum)
  for (std::int64_t j = 0; j < n; ++j) maximum = Acc(row[j]) > maximum ? Acc(row[j]) : maximum;
  return maximum;
}

template <class T, class Acc>
Acc sum_of_exponentials(const T* row, std::int64_t n, Acc maximum) {
  Acc sum = 0;
#pragma omp simd reduction(+ : sum)
  for (std::int64_t j = 0; j < n; ++j) sum += cpu::exp(Acc(row[j]) - maximum);
  return sum;
}

// row = scale * (softmax(row) - one-hot(target)), rounded once.
template <class T, class Acc>
void write_gradient_row(T* row, std::int64_t n, Acc logsumexp, std::int32_t target, Acc scale) {
  const Acc at_target = scale * std::expm1(Acc(row[target]) - logsumexp);
#pragma omp simd
  for (std::int64_t j = 0; j < n; ++j) row[j] = T(scale * cpu::exp(Acc(row[j]) - logsumexp));
  row[target] = T(at_target);
}

}  // namespace

void cross_entropy(const Launch&, const CrossEntropyArgs& args) {
  dispatch_floating(args.logits.dtype, [&](auto type) {
    using T = decltype(type);
    using Acc = accumulation_t<T>;
    const std::int64_t n = args.logits.cols;
    Acc* losses = static_cast<Acc*>(args.losses);
    parallel_blocks(args.logits.rows, kRows, [&](std::int64_t begin, std::int64_t end, int) {
      for (std::int64_t t = begin; t < end; ++t) {
        T* row = args.logits.row<T>(t);
        const std::int32_t target = args.targets[t];
        if (target < 0) {
          losses[t] = 0;
          if (args.write_gradient) std::fill_n(row, n, T(Acc(0)));
          continue;
        }
        checked_index(target, n);
        const Acc maximum = maximum_of<T, Acc>(row, n);
        const Acc log_sum = std::log(sum_of_exponentials(row, n, maximum));
        losses[t] = log_sum + (maximum - Acc(row[target]));
        if (args.write_gradient)
          write_gradient_row(row, n, maximum + log_sum, target, Acc(args.scale));
      }
    });
  });
}

void sum_losses(const Launch&, const SumLossesArgs& args) {
  dispatch_floating(args.dtype, [&](auto type) {
    using T = decltype(type);
    const T* losses = static_cast<const T*>(args.losses);
    double sum = 0;
    for (std::int64_t t = 0; t < args.numel; ++t) sum += double(losses[t]);
    *static_cast<T*>(args.total) = T(args.scale * sum);
  });
}

}  // namespace smoe::kernels::cpu
