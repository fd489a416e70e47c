#include "core/system/json_reader.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <vector>

#include "core/base/check.h"
#include "core/system/text.h"

namespace smoe {
namespace {

using Json = nlohmann::json;

bool fits_int64(const Json& value) {
  return value.is_number_integer() &&
         !(value.is_number_unsigned() &&
           value.get<std::uint64_t>() > static_cast<std::uint64_t>(kMaxInt64));
}

// Checks nesting and keys while the text is scanned. Scanning stops silently at invalid JSON, which
// the parser reports.
class LimitCheck final : public nlohmann::json_sax<Json> {
 public:
  LimitCheck(const std::string& path, std::size_t max_depth) : path_(path), max_depth_(max_depth) {}

  bool null() override { return true; }
  bool boolean(bool) override { return true; }
  bool number_integer(number_integer_t) override { return true; }
  bool number_unsigned(number_unsigned_t) override { return true; }
  bool number_float(number_float_t, const string_t&) override { return true; }
  bool string(string_t&) override { return true; }
  bool binary(binary_t&) override { return true; }
  bool start_object(std::size_t) override { return begin(); }
  bool start_array(std::size_t) override { return begin(); }
  bool end_array() override { return end(); }
  bool end_object() override { return end(); }
  bool key(string_t& name) override {
    keys_.back().push_back(std::move(name));
    return true;
  }
  bool parse_error(std::size_t, const std::string&, const Json::exception&) override {
    return false;
  }

 private:
  bool begin() {
    SMOE_CHECK(keys_.size() < max_depth_, path_, ": must nest at most ", max_depth_,
               " levels deep; got more");
    keys_.emplace_back();
    return true;
  }
  bool end() {
    auto& names = keys_.back();
    std::sort(names.begin(), names.end());
    const auto twin = std::adjacent_find(names.begin(), names.end());
    SMOE_CHECK(twin == names.end(), path_, ": keys must occur once in an object; got ",
               printable(*twin), " twice");
    keys_.pop_back();
    return true;
  }

  const std::string& path_;
  std::size_t max_depth_;
  std::vector<std::vector<std::string>> keys_;  // one list per enclosing level; empty for arrays
};

}  // namespace

std::string shown(const Json& value) {
  if (value.is_structured()) return value.is_array() ? "an array" : "an object";
  return printable(value.dump(-1, ' ', false, Json::error_handler_t::replace));
}

Json parse_json(std::string_view text, const std::string& path, std::size_t max_depth) {
  try {
    // Not a callback of parse(), whose time is quadratic in the number of objects.
    LimitCheck limits(path, max_depth);
    Json::sax_parse(text, &limits);
    return Json::parse(text);
  } catch (const Json::parse_error& error) {
    throw UsageError(concat(path, ": invalid JSON at byte ", error.byte,
                            error.byte > text.size() ? ", after its end: it is incomplete" : ""));
  } catch (const Json::exception&) {
    throw UsageError(concat(path, ": invalid JSON: a number is out of range"));
  }
}

std::int64_t checked_integer(const Json& value, const std::string& place, std::int64_t min,
                             std::int64_t max) {
  const bool is_inside =
      fits_int64(value) && value.get<std::int64_t>() >= min && value.get<std::int64_t>() <= max;
  SMOE_CHECK(is_inside, place, ": must be an integer from ", min, " to ", max, "; got ",
             shown(value));
  return value.get<std::int64_t>();
}

ObjectReader::ObjectReader(const Json& object, std::string place)
    : object_(object), place_(std::move(place)) {
  SMOE_CHECK(object.is_object(), place_, ": must be an object; got ", shown(object));
}

bool ObjectReader::has(const char* key) const {
  return object_.contains(key);
}

const Json& ObjectReader::field(const char* key) {
  const auto found = object_.find(key);
  SMOE_CHECK(found != object_.end(), place_, ": has no \"", key, "\"");
  ++num_read_;
  return *found;
}

const std::string& ObjectReader::string(const char* key) {
  const Json& value = field(key);
  SMOE_CHECK(value.is_string(), place_of(key), ": must be a string; got ", shown(value));
  return value.get_ref<const std::string&>();
}

const Json& ObjectReader::array(const char* key) {
  const Json& value = field(key);
  SMOE_CHECK(value.is_array(), place_of(key), ": must be an array; got ", shown(value));
  return value;
}

const Json& ObjectReader::object(const char* key) {
  const Json& value = field(key);
  SMOE_CHECK(value.is_object(), place_of(key), ": must be an object; got ", shown(value));
  return value;
}

std::int64_t ObjectReader::integer(const char* key, std::int64_t min, std::int64_t max) {
  return checked_integer(field(key), place_of(key), min, max);
}

void ObjectReader::finish() const {
  SMOE_CHECK(object_.size() == num_read_, place_, ": must have ", num_read_, " fields; got ",
             object_.size());
}

}  // namespace smoe
