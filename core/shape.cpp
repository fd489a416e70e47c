#include "core/shape.h"

#include <algorithm>
#include <ostream>

#include "core/base/check.h"

namespace smoe {

Shape::Shape(std::initializer_list<std::int64_t> sizes)
    : Shape(sizes.begin(), static_cast<int>(sizes.size())) {}

Shape::Shape(const std::int64_t* sizes, int rank) : rank_(rank) {
  SMOE_CHECK(rank >= 0 && rank <= kMaxRank, "shape: rank must be 0 to ", kMaxRank, "; got ", rank);
  std::copy_n(sizes, rank, sizes_.begin());
  for (int i = 0; i < rank; ++i)
    SMOE_CHECK(sizes[i] >= 0, "shape: sizes must not be negative; got ", to_string());
}

std::int64_t Shape::operator[](int i) const {
  const int at = i < 0 ? i + rank_ : i;
  SMOE_CHECK(at >= 0 && at < rank_, "shape: dimension ", i, " is out of range for ", to_string());
  return sizes_[at];
}

std::int64_t Shape::numel() const {
  std::int64_t n = 1;
  for (int i = 0; i < rank_; ++i) n *= sizes_[i];
  return n;
}

std::int64_t Shape::row_numel() const {
  SMOE_CHECK(rank_ > 0, "shape: a rank-0 shape has no rows");
  std::int64_t n = 1;
  for (int i = 1; i < rank_; ++i) n *= sizes_[i];
  return n;
}

Shape Shape::with_rows(std::int64_t rows) const {
  SMOE_CHECK(rank_ > 0, "shape: a rank-0 shape has no rows");
  Shape shape = *this;
  shape.sizes_[0] = rows;
  return shape;
}

std::string Shape::to_string() const {
  std::string text = "[";
  for (int i = 0; i < rank_; ++i) text += (i ? ", " : "") + std::to_string(sizes_[i]);
  return text + "]";
}

std::ostream& operator<<(std::ostream& out, const Shape& shape) {
  return out << shape.to_string();
}

}  // namespace smoe
