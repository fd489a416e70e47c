// Reading JSON that nobody vouches for: a parser with limits, and typed fields of an object with
// messages that say where a wrong one is.
#pragma once
#include <cstdint>
#include <limits>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <string_view>

#include "core/shape.h"

namespace smoe {

inline constexpr std::int64_t kMaxInt64 = std::numeric_limits<std::int64_t>::max();

/// Text from a file, made fit for a message: short and of one line.
std::string printable(std::string_view text);

/// A value for a message: short and of one line.
std::string shown(const nlohmann::json& value);

/// The JSON in `text`; `path` stands for the file in messages. Throws: UsageError when it is none,
/// nests deeper than `max_depth`, has a number out of range or a key twice in one object.
nlohmann::json parse_json(std::string_view text, const std::string& path, std::size_t max_depth);

/// The integer `value`. Throws: UsageError naming `place` unless it is one from min to max.
std::int64_t checked_integer(const nlohmann::json& value, const std::string& place,
                             std::int64_t min, std::int64_t max);

/// A place in a JSON text: one object, and where it is. The object must outlive the reader. Members
/// that read throw UsageError when the field is missing or not of the type.
class ObjectReader {
 public:
  /// Throws: UsageError unless `object` is one.
  ObjectReader(const nlohmann::json& object, std::string place);

  const nlohmann::json& field(const char* key);
  const std::string& string(const char* key);
  const nlohmann::json& array(const char* key);
  const nlohmann::json& object(const char* key);
  std::int64_t integer(const char* key, std::int64_t min, std::int64_t max);
  /// An array of sizes, of a tensor with less than 2^63 bytes.
  Shape shape(const char* key, std::int64_t element_bytes);
  std::string place_of(const char* key) const { return place_ + ": " + key; }
  /// To be called last. Throws: UsageError when there are fields besides those that were read.
  void finish() const;

 private:
  const nlohmann::json& object_;
  std::string place_;
  std::size_t num_read_ = 0;
};

}  // namespace smoe
