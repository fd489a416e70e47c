// Matrix: a view of a row-major matrix, for kernels.
#pragma once
#include <cstdint>

#include "core/base/dtype.h"

namespace smoe {

struct Matrix {
  void* data = nullptr;
  DType dtype = DType::f32;
  std::int64_t rows = 0;
  std::int64_t cols = 0;
  std::int64_t stride = 0;  ///< elements from one row to the next, >= cols

  template <class T>
  T* row(std::int64_t i) const {
    return static_cast<T*>(data) + i * stride;
  }
  /// Columns [first, first + count) of every row.
  Matrix columns(std::int64_t first, std::int64_t count) const {
    return {static_cast<char*>(data) + first * size_of(dtype), dtype, rows, count, stride};
  }
};

struct ConstMatrix {
  const void* data = nullptr;
  DType dtype = DType::f32;
  std::int64_t rows = 0;
  std::int64_t cols = 0;
  std::int64_t stride = 0;

  ConstMatrix() = default;
  ConstMatrix(const void* data, DType dtype, std::int64_t rows, std::int64_t cols,
              std::int64_t stride)
      : data(data), dtype(dtype), rows(rows), cols(cols), stride(stride) {}
  ConstMatrix(const Matrix& m)
      : data(m.data), dtype(m.dtype), rows(m.rows), cols(m.cols), stride(m.stride) {}

  template <class T>
  const T* row(std::int64_t i) const {
    return static_cast<const T*>(data) + i * stride;
  }
  /// Columns [first, first + count) of every row.
  ConstMatrix columns(std::int64_t first, std::int64_t count) const {
    return {static_cast<const char*>(data) + first * size_of(dtype), dtype, rows, count, stride};
  }
};

}  // namespace smoe
