#include "core/system/json_reader.h"

#include <doctest/doctest.h>

#include <nlohmann/json.hpp>

#include "core/system/deadline.h"
#include "tests/support/temporary_folder.h"

namespace smoe {
namespace {

std::string refusal(std::string_view text) {
  return message_of([&] { parse_json(text, "f", 3); });
}

TEST_CASE(
    "JSON is refused when it is invalid, too deep, or has a key twice or a number too large") {
  CHECK(parse_json(R"({"a":[1,{"b":2}],"c":{"a":null}})", "f", 3)["a"][1]["b"] == 2);
  CHECK(refusal("[[[[]]]]") == "f: must nest at most 3 levels deep; got more");
  CHECK(refusal(R"({"a":{"b":1,"c":2,"b":3}})") ==
        "f: keys must occur once in an object; got b twice");
  CHECK(refusal("[1,]") == "f: invalid JSON at byte 4");
  CHECK(refusal("") == "f: invalid JSON at byte 1, after its end: it is incomplete");
  CHECK(refusal("[1] 2").starts_with("f: invalid JSON at byte "));
  CHECK(refusal("[1e999]") == "f: invalid JSON: a number is out of range");
}

TEST_CASE("the time to read JSON is linear in the number of objects") {
  std::string text = "{";
  for (int i = 0; i < 80'000; ++i) text += concat(i > 0 ? "," : "", "\"t", i, "\":{\"n\":[0]}");
  text += "}";
  const Deadline deadline = Deadline::in(10);  // quadratic: a minute
  CHECK(parse_json(text, "f", 3).size() == 80'000);
  CHECK(!deadline.has_passed());
}

}  // namespace
}  // namespace smoe
