// Gather index of grouped GEMMs: the memory row of a grouped row.
#pragma once
#include <cstdint>

#include "core/base/check.h"
#include "kernels/grouped_gemm.h"

namespace smoe::kernels::cuda {

/// Division of numbers in [0, 2^31) by a divisor in [1, 2^31) with one multiplication (Granlund and
/// Montgomery, "Division by invariant integers using multiplication", PLDI 1994).
class FastDivisor {
 public:
  explicit FastDivisor(std::int64_t divisor) {
    while ((std::int64_t{1} << shift_) < divisor) ++shift_;
    magic_ = static_cast<std::uint32_t>(((std::uint64_t{1} << (31 + shift_)) + divisor - 1) /
                                        static_cast<std::uint64_t>(divisor));
  }
  __host__ __device__ std::int32_t divide(std::int32_t n) const {
    const std::uint64_t product =
        static_cast<std::uint64_t>(static_cast<std::uint32_t>(n)) * magic_;
    return static_cast<std::int32_t>(product >> (31 + shift_));
  }

 private:
  std::uint32_t magic_ = 0;
  int shift_ = 0;
};

/// Maps grouped row p to its row in memory: p itself, or its scattered id, or its token if the
/// array has one row per token.
class RowIndex {
 public:
  RowIndex(const RoutingView& routing, RowLayout layout, std::int64_t num_rows)
      : ids_(layout == RowLayout::grouped ? nullptr : routing.sorted_scattered_ids),
        ids_per_row_(!ids_ || num_rows == routing.num_rows() ? 1 : routing.top_k) {}

  __device__ std::int32_t operator()(std::int32_t p) const { return row_of(id(p, p + 1)); }

  /// The two halves of operator(), so that a load can be issued before its result is needed: the id
  /// of grouped row p < end (any value from `end` on), and the row of an id.
  __device__ std::int32_t id(std::int32_t p, std::int32_t end) const {
    std::int32_t id = p;
    if (ids_ && p < end) id = __ldg(ids_ + p);
    return id;
  }
  __device__ std::int32_t row_of(std::int32_t id) const { return ids_per_row_.divide(id); }

 private:
  const std::int32_t* ids_;  // null if grouped
  FastDivisor ids_per_row_;
};

/// base + count rows of `bytes` each: one multiply-add in 64 bits.
template <class T>
__device__ inline const T* advance_rows(const T* base, std::uint32_t count, std::uint32_t bytes) {
  return reinterpret_cast<const T*>(reinterpret_cast<const char*>(base) +
                                    std::uint64_t{count} * bytes);
}

/// Bytes from one row to the next. Throws: UsageError from 4 GiB on.
inline std::uint32_t row_bytes(DType dtype, std::int64_t stride) {
  const std::int64_t bytes = stride * size_of(dtype);
  SMOE_CHECK(bytes >> 32 == 0, "grouped_gemm: a row must be smaller than 4 GiB; got ", bytes,
             " bytes");
  return static_cast<std::uint32_t>(bytes);
}
inline std::uint32_t row_bytes(const ConstMatrix& m) {
  return row_bytes(m.dtype, m.stride);
}

}  // namespace smoe::kernels::cuda
