#include "core/system/text.h"

#include <doctest/doctest.h>

#include <cstdint>
#include <string>

namespace smoe {
namespace {

/// Encodes a code point, surrogates included, by the definition of UTF-8.
std::string encoded(std::uint32_t point) {
  const auto tail = [&](int shift) { return static_cast<char>(0x80 | ((point >> shift) & 0x3f)); };
  if (point < 0x80) return {static_cast<char>(point)};
  if (point < 0x800) return {static_cast<char>(0xc0 | point >> 6), tail(0)};
  if (point < 0x10000) return {static_cast<char>(0xe0 | point >> 12), tail(6), tail(0)};
  return {static_cast<char>(0xf0 | point >> 18), tail(12), tail(6), tail(0)};
}

TEST_CASE("utf8_length accepts every code point but surrogates") {
  for (std::uint32_t point = 0; point < 0x120000; ++point) {
    const std::string text = encoded(point);
    const bool is_character = point < 0xd800 || (point > 0xdfff && point < 0x110000);
    const std::size_t expected = is_character ? text.size() : 0;
    if (utf8_length(text) != expected || utf8_length(text + "x") != expected) FAIL(point);
    if (text.size() > 1 && utf8_length(text.substr(0, text.size() - 1)) != 0) FAIL(point);
  }
}

TEST_CASE("utf8_length refuses overlong forms, lone continuation bytes and empty text") {
  for (const char* text : {"", "\x80", "\xc0\xaf", "\xc1\xbf", "\xe0\x9f\xbf", "\xf0\x8f\xbf\xbf",
                           "\xf5\x80\x80\x80", "\xff", "\xc3("})
    CHECK(utf8_length(text) == 0);
}

TEST_CASE("printable text is one line of valid UTF-8, cut between characters") {
  CHECK(printable("plain") == "plain");
  CHECK(printable("gr\xc3\xbc\xc3\x9f") == "gr\xc3\xbc\xc3\x9f");
  CHECK(printable(std::string_view("a\nb\0c\x7f\x1b[1m", 10)) == "a\\nb\\x00c\\x7f\\x1b[1m");
  CHECK(printable("a\xc3") == "a\\xc3");
  CHECK(printable("\xc2\x9b"
                  "1m\xc2\xa0") == "\\xc2\\x9b1m\xc2\xa0");  // U+009B is CSI
  CHECK(printable(std::string(80, 'x')) == std::string(80, 'x'));
  CHECK(printable(std::string(81, 'x')) == std::string(80, 'x') + "...");
  const std::string umlaut = "\xc3\xbc";
  std::string long_text = "x";
  while (long_text.size() < 200) long_text += umlaut;
  CHECK(printable(long_text) == long_text.substr(0, 81) + "...");
}

TEST_CASE("no control character passes as printable, C1 included") {
  CHECK(is_printable("gr\xc3\xbc\xc3\x9f"));
  CHECK(
      !is_printable("\xc2\x9b"
                    "1m"));
  CHECK(!is_printable("\x1b[1m"));
}

TEST_CASE("printable lines keep their line feeds and any length") {
  CHECK(printable_lines("a\x1b\n\nb\tc\n") == "a\\x1b\n\nb\\tc\n");
  CHECK(printable_lines("") == "");
  CHECK(printable_lines(std::string(200, 'x')) == std::string(200, 'x'));
}

TEST_CASE("text for a terminal keeps its line feeds and tabs") {
  CHECK(terminal_text("a\x1b[1m\n\tb\r\xc2\x9b") == "a\\x1b[1m\n\tb\\x0d\\xc2\\x9b");
}

TEST_CASE("a shell reads a word as it was") {
  CHECK(shell_word("runs/a-b_1.5=x") == "runs/a-b_1.5=x");
  CHECK(shell_word("") == "''");
  CHECK(shell_word("a b;$c") == "'a b;$c'");
  CHECK(shell_word("it's") == "'it'\\''s'");
}

}  // namespace
}  // namespace smoe
