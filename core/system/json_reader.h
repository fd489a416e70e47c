// Reading untrusted JSON: a parser with limits, and typed access to an object's fields with
// messages that locate the error.
#pragma once
#include <cstdint>
#include <limits>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <string_view>

namespace smoe {

inline constexpr std::int64_t kMaxInt64 = std::numeric_limits<std::int64_t>::max();

/// A value for messages, short and on one line.
std::string shown(const nlohmann::json& value);

/// Parses `text`; messages name the file `path`. Throws: UsageError when it is not valid JSON,
/// nests deeper than `max_depth`, has a number out of range or a key twice in one object.
nlohmann::json parse_json(std::string_view text, const std::string& path, std::size_t max_depth);

/// Returns `value` as an integer. Throws: UsageError naming `place` unless it is an integer in
/// [min, max].
std::int64_t checked_integer(const nlohmann::json& value, const std::string& place,
                             std::int64_t min, std::int64_t max);

/// Reads the fields of one object, whose place in the file messages name. The object must outlive
/// the reader. Members that read throw UsageError when the field is missing or of another type.
class ObjectReader {
 public:
  /// Throws: UsageError unless `object` is a JSON object.
  ObjectReader(const nlohmann::json& object, std::string place);

  /// Whether the object has the field, for fields that later versions of a format added.
  bool has(const char* key) const;
  const nlohmann::json& field(const char* key);
  const std::string& string(const char* key);
  const nlohmann::json& array(const char* key);
  const nlohmann::json& object(const char* key);
  std::int64_t integer(const char* key, std::int64_t min, std::int64_t max);
  std::string place_of(const char* key) const { return place_ + ": " + key; }
  /// To be called last. Throws: UsageError when the object has fields that were not read.
  void finish() const;

 private:
  const nlohmann::json& object_;
  std::string place_;
  std::size_t num_read_ = 0;
};

}  // namespace smoe
