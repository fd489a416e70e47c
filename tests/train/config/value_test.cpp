#include "train/config/value.h"

#include <doctest/doctest.h>

#include <bit>
#include <cmath>
#include <limits>
#include <random>

namespace smoe {
namespace {

constexpr std::int64_t kUntouched = -77;

/// The type that assign requires of an integer; "ok" if it accepted the text.
std::string integer_from(const std::string& text, std::int64_t& value) {
  value = kUntouched;
  const std::string wanted = assign(&value, {text});
  return wanted.empty() ? "ok" : wanted;
}

TEST_CASE("integers are 64 bits in plain decimal") {
  std::int64_t value = 0;
  for (const auto& [text, number] : std::vector<std::pair<std::string, std::int64_t>>{
           {"0", 0},
           {"-0", 0},
           {"7", 7},
           {"-12", -12},
           {"9223372036854775807", std::numeric_limits<std::int64_t>::max()},
           {"-9223372036854775808", std::numeric_limits<std::int64_t>::min()}}) {
    CHECK(integer_from(text, value) == "ok");
    CHECK(value == number);
  }
  for (const char* text :
       {"", " ", "1.0", "1e3", "0x10", "+1", "1_000", "1 ", "--1", "one", "0b1"}) {
    CAPTURE(text);
    CHECK(integer_from(text, value) == "an integer");
    CHECK(value == kUntouched);
  }
  for (const char* text : {"010", "-010", "00"})
    CHECK(integer_from(text, value) == "an integer without leading zeros");
  for (const char* text : {"9223372036854775808", "-9223372036854775809", "1000000000000000000000"})
    CHECK(integer_from(text, value) == "an integer of at most 64 bits");
  CHECK(value == kUntouched);
}

TEST_CASE("numbers are finite decimals") {
  double value = 0;
  for (const auto& [text, number] : std::vector<std::pair<std::string, double>>{
           {"0", 0}, {"1", 1}, {"-2.5", -2.5}, {"3e-4", 3e-4}, {"1E+3", 1000}, {".5", 0.5}}) {
    CAPTURE(text);
    CHECK(assign(&value, {text}) == "");
    CHECK(value == number);
  }
  value = kUntouched;
  for (const char* text : {"", "abc", "0x1p3", "1,5", "1e", "1.0.0", "+1", "1f"}) {
    CAPTURE(text);
    CHECK(assign(&value, {text}) == "a number");
  }
  for (const char* text : {"inf", "-inf", "nan", "infinity"})
    CHECK(assign(&value, {text}) == "a finite number");
  CHECK(assign(&value, {".inf"}) == "a number");
  CHECK(assign(&value, {"1e999"}) == "a number that fits a double");
  CHECK(assign(&value, {"01.5"}) == "a number without leading zeros");
  CHECK(value == kUntouched);
}

TEST_CASE("any finite double survives printing and parsing") {
  std::mt19937_64 random(1);
  for (int i = 0; i < 20000; ++i) {
    double value = std::bit_cast<double>(random());
    if (!std::isfinite(value)) continue;
    double back = 0;
    const std::string text = to_yaml(&value);
    CAPTURE(text);
    REQUIRE(assign(&back, {text}) == "");
    REQUIRE(std::bit_cast<std::uint64_t>(back) == std::bit_cast<std::uint64_t>(value));
  }
}

TEST_CASE("booleans are true and false only") {
  bool value = false;
  CHECK(assign(&value, {"true"}) == "");
  CHECK(value);
  CHECK(assign(&value, {"false"}) == "");
  CHECK_FALSE(value);
  for (const char* text : {"True", "yes", "on", "1", "y", ""})
    CHECK(assign(&value, {text}) == "true or false");
}

TEST_CASE("quotes make text: right for text and names, wrong for numbers and booleans") {
  std::int64_t integer = 0;
  double number = 0;
  bool flag = false;
  std::string text;
  CHECK(assign(&integer, {"8", true}) == "an integer");
  CHECK(assign(&number, {"8", true}) == "a number");
  CHECK(assign(&flag, {"true", true}) == "true or false");
  CHECK(assign(&text, {"8", true}) == "");
  CHECK(text == "8");
  CHECK(assign(&text, {"010"}) == "");
  CHECK(text == "010");
  CHECK(assign(&text, {"two\nlines", true}) == "text in UTF-8 without control characters");
  CHECK(assign(&text, {"a\xff"}) == "text in UTF-8 without control characters");
  CHECK(text == "010");
}

TEST_CASE("a choice takes its names only") {
  char value = 'a';
  const ValueRef target = choice<char>(value, {{"first", 'a'}, {"second", 'b'}});
  CHECK(assign(target, {"second"}) == "");
  CHECK(value == 'b');
  CHECK(to_yaml(target) == "second");
  CHECK(assign(target, {"third"}) == "one of first, second");
  CHECK(assign(target, {""}) == "one of first, second");
  CHECK(value == 'b');
  value = 'z';
  CHECK_THROWS_AS(to_yaml(target), InternalError);
}

}  // namespace
}  // namespace smoe
