// Panels: blocks of matrices as GEMM operands in the accumulation type. A block that is already
// stored in that type is read in place; any other is converted into scratch first.
#pragma once
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <type_traits>

#include "core/base/matrix.h"
#include "kernels/cpu/lanes.h"
#include "kernels/cpu/threads.h"

namespace smoe::kernels::cpu {

/// Calls f(double{}) if any of the dtypes is f64, else f(float{}).
template <class F>
decltype(auto) dispatch_accumulation(std::initializer_list<DType> dtypes, F&& f) {
  const bool is_f64 = std::find(dtypes.begin(), dtypes.end(), DType::f64) != dtypes.end();
  return is_f64 ? f(double{}) : f(float{});
}

/// Size along K of the panels in which operands of another dtype are converted.
inline constexpr std::int64_t kPanelK = 256;

/// target[i] = source[i], rounded once.
template <class S, class T>
void convert(const S* source, T* target, std::int64_t n) {
  if constexpr (std::is_same_v<S, T>)
    std::copy_n(source, n, target);
  else if constexpr (std::is_same_v<accumulation_t<S>, accumulation_t<T>>)
    for_lanes<T>(n, [=](std::int64_t i, const auto& lanes) {
      lanes.store(target + i, lanes.load(source + i));
    });
  else
    for (std::int64_t i = 0; i < n; ++i) target[i] = T(static_cast<double>(source[i]));
}

/// A half-open block of rows and columns.
struct Block {
  std::int64_t row_begin, row_end, col_begin, col_end;
  std::int64_t rows() const { return row_end - row_begin; }
  std::int64_t cols() const { return col_end - col_begin; }
};

template <class Acc>
struct Panel {
  const Acc* data;
  std::int64_t stride;
};

/// A block of `m` as Acc; uses block.rows() * block.cols() elements of scratch unless m holds Acc.
template <class Acc>
Panel<Acc> load_panel(const ConstMatrix& m, const Block& block, Acc* scratch) {
  if (block.rows() == 0 || block.cols() == 0) return {scratch, block.cols()};
  if (m.dtype == dtype_of<Acc>) return {m.row<Acc>(block.row_begin) + block.col_begin, m.stride};
  dispatch_floating(m.dtype, [&](auto type) {
    using T = decltype(type);
    for (std::int64_t i = 0; i < block.rows(); ++i)
      convert(m.row<T>(block.row_begin + i) + block.col_begin, scratch + i * block.cols(),
              block.cols());
  });
  return {scratch, block.cols()};
}

/// Stores a packed block of Acc to its position in `m`, converted to m's dtype.
template <class Acc>
void store_block(const Acc* source, const Matrix& m, const Block& block) {
  dispatch_floating(m.dtype, [&](auto type) {
    using T = decltype(type);
    for (std::int64_t i = 0; i < block.rows(); ++i)
      convert(source + i * block.cols(), m.row<T>(block.row_begin + i) + block.col_begin,
              block.cols());
  });
}

/// Allocates arrays from a workspace, each aligned to a cache line. Without memory it only measures
/// the bytes needed.
class Scratch {
 public:
  explicit Scratch(void* base = nullptr) : base_(static_cast<std::byte*>(base)) {}

  template <class T>
  T* take(std::int64_t n) {
    std::byte* array = base_ ? base_ + used_ : nullptr;
    used_ += (n * static_cast<std::int64_t>(sizeof(T)) + 63) / 64 * 64;
    return reinterpret_cast<T*>(array);
  }
  std::int64_t bytes() const { return used_; }
  /// The memory after the arrays.
  void* rest() const { return base_ ? base_ + used_ : nullptr; }

 private:
  std::byte* base_;
  std::int64_t used_ = 0;
};

/// A workspace with one partition per thread of the pool, of the size that `kernel.take(scratch)`
/// allocates.
class ThreadWorkspace {
 public:
  template <class Kernel>
  ThreadWorkspace(void* base, const Kernel& kernel)
      : base_(static_cast<std::byte*>(base)), thread_bytes_(bytes_per_thread(kernel)) {}

  Scratch of(int thread) const { return Scratch(base_ ? base_ + thread * thread_bytes_ : nullptr); }

  template <class Kernel>
  static std::int64_t bytes(const Kernel& kernel) {
    return num_threads() * bytes_per_thread(kernel);
  }

 private:
  template <class Kernel>
  static std::int64_t bytes_per_thread(const Kernel& kernel) {
    Scratch measure;
    kernel.take(measure);
    return measure.bytes();
  }

  std::byte* base_;
  std::int64_t thread_bytes_;
};

}  // namespace smoe::kernels::cpu
