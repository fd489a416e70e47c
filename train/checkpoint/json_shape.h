// Reading tensor shapes from JSON.
#pragma once
#include <cstdint>

#include "core/shape.h"
#include "core/system/json_reader.h"

namespace smoe {

/// Reads the field `key`, an array of sizes, as the shape of a tensor of `element_bytes` per
/// element. Throws: UsageError unless it is a shape with less than 2^63 bytes.
Shape read_shape(ObjectReader& object, const char* key, std::int64_t element_bytes);

}  // namespace smoe
