// Shape: the sizes of up to four dimensions, row-major.
#pragma once
#include <array>
#include <cstdint>
#include <initializer_list>
#include <iosfwd>
#include <string>

namespace smoe {

class Shape {
 public:
  static constexpr int kMaxRank = 4;

  Shape() = default;
  /// Throws: UsageError for more than four sizes, a negative one, or 2^63 bytes in any dtype.
  Shape(std::initializer_list<std::int64_t> sizes);
  Shape(const std::int64_t* sizes, int rank);

  int rank() const { return rank_; }
  /// Size of dimension i; negative i counts from the last. Throws: UsageError out of range.
  std::int64_t operator[](int i) const;
  /// Product of all sizes; 1 for a rank-0 shape.
  std::int64_t numel() const;
  /// Elements of one slice along dimension 0.
  std::int64_t row_numel() const;
  /// Same shape with dimension 0 replaced.
  Shape with_rows(std::int64_t rows) const;
  /// "[2, 3]".
  std::string to_string() const;

  friend bool operator==(const Shape&, const Shape&) = default;

 private:
  std::array<std::int64_t, kMaxRank> sizes_{};
  int rank_ = 0;
};

std::ostream& operator<<(std::ostream& out, const Shape& shape);

}  // namespace smoe
