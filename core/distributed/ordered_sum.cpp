#include "core/distributed/ordered_sum.h"

#include <algorithm>

#include "core/base/check.h"

namespace smoe {
namespace {

template <class T, class Acc>
void add_in_order(const std::vector<const void*>& terms, std::int64_t numel, void* result) {
  constexpr std::int64_t kBlock = 2048;
  Acc sums[kBlock];
  for (std::int64_t begin = 0; begin < numel; begin += kBlock) {
    const std::int64_t size = std::min(kBlock, numel - begin);
    const T* const first = static_cast<const T*>(terms[0]) + begin;
    for (std::int64_t i = 0; i < size; ++i) sums[i] = static_cast<Acc>(first[i]);
    for (std::size_t t = 1; t < terms.size(); ++t) {
      const T* const term = static_cast<const T*>(terms[t]) + begin;
      for (std::int64_t i = 0; i < size; ++i) sums[i] += static_cast<Acc>(term[i]);
    }
    T* const out = static_cast<T*>(result) + begin;
    for (std::int64_t i = 0; i < size; ++i) out[i] = static_cast<T>(sums[i]);
  }
}

}  // namespace

OrderedSum ordered_sum_for(const char* op, DType dtype) {
  switch (dtype) {
    case DType::f32:
      return add_in_order<float, float>;
    case DType::f64:
      return add_in_order<double, double>;
    case DType::bf16:
      return add_in_order<bf16, float>;
    case DType::i64:
      return add_in_order<std::uint64_t, std::uint64_t>;
    default:
      throw UsageError(concat(op, ": dtype must be f32, f64, bf16 or i64; got ", name_of(dtype)));
  }
}

}  // namespace smoe
