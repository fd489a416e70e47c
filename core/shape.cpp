#include "core/shape.h"

#include <algorithm>
#include <ostream>

#include "core/base/check.h"

namespace smoe {
namespace {

constexpr std::int64_t kMaxElementBytes = 8;  // of any dtype

}  // namespace

Shape::Shape(std::initializer_list<std::int64_t> sizes)
    : Shape(sizes.begin(), static_cast<int>(sizes.size())) {}

Shape::Shape(const std::int64_t* sizes, int rank) : rank_(rank) {
  SMOE_CHECK(rank >= 0 && rank <= kMaxRank, "shape: rank must be 0 to ", kMaxRank, "; got ", rank);
  std::copy_n(sizes, rank, sizes_.begin());
  for (int i = 0; i < rank; ++i)
    SMOE_CHECK(sizes[i] >= 0, "shape: sizes must not be negative; got ", to_string());
  // The one place where products of sizes are checked: numel(), the elements of rows and the bytes
  // of a tensor cannot overflow. Zeros count as 1, since they may be replaced (with_rows).
  std::int64_t bytes = kMaxElementBytes;
  for (int i = 0; i < rank; ++i)
    SMOE_CHECK(!__builtin_mul_overflow(bytes, std::max<std::int64_t>(sizes[i], 1), &bytes),
               "shape: a tensor must have less than 2^63 bytes; got ", to_string());
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
  auto sizes = sizes_;
  sizes[0] = rows;
  return Shape(sizes.data(), rank_);
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
