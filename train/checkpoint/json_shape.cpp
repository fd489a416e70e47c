#include "train/checkpoint/json_shape.h"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "core/base/check.h"

namespace smoe {

Shape read_shape(ObjectReader& object, const char* key, std::int64_t element_bytes) {
  const nlohmann::json& sizes = object.array(key);
  const std::string place = object.place_of(key);
  SMOE_CHECK(sizes.size() <= Shape::kMaxRank, place, ": must have at most ", Shape::kMaxRank,
             " sizes; got ", sizes.size());
  std::int64_t values[Shape::kMaxRank];
  std::int64_t total = element_bytes;  // zeros count as 1, so overflow after a zero is refused too
  for (std::size_t i = 0; i < sizes.size(); ++i) {
    values[i] = checked_integer(sizes[i], place, 0, kMaxInt64);
    const bool overflows =
        __builtin_mul_overflow(total, std::max<std::int64_t>(values[i], 1), &total);
    SMOE_CHECK(!overflows, place, ": must have less than 2^63 bytes; got ", sizes.dump());
  }
  return {values, static_cast<int>(sizes.size())};
}

}  // namespace smoe
