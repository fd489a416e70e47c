#include "train/tokenizer/tokenizer.h"

#include <doctest/doctest.h>

#include "core/base/check.h"

using namespace smoe;

TEST_CASE("any bytes survive encoding and decoding") {
  const ByteTokenizer tokenizer;
  std::string text;
  for (int i = 0; i < 256; ++i) text += static_cast<char>(i);
  std::vector<std::int32_t> tokens = {7};
  tokenizer.encode(text, tokens);
  REQUIRE(tokens.size() == 257);
  CHECK(tokens[0] == 7);
  std::string back;
  for (int i = 0; i < 256; ++i) {
    CHECK(tokens[i + 1] == i);
    back += tokenizer.bytes_of(tokens[i + 1]);
  }
  CHECK(back == text);
  CHECK(tokenizer.bytes_of(tokenizer.end_of_text()).empty());
  CHECK_THROWS_AS(tokenizer.bytes_of(257), UsageError);
  CHECK_THROWS_AS(tokenizer.bytes_of(-1), UsageError);
}

TEST_CASE("a tokenizer is constructed from its file only") {
  const ByteTokenizer tokenizer;
  const auto again = make_tokenizer(tokenizer.file_bytes(), "a");
  CHECK(again->vocab_size() == 257);
  CHECK(again->digest() == tokenizer.digest());
  CHECK_THROWS_AS(make_tokenizer("{}", "a"), UsageError);
}

TEST_CASE("text is decoded in complete characters; invalid UTF-8 becomes U+FFFD") {
  const ByteTokenizer tokenizer;
  const auto decode = [&](const std::string& bytes) {
    TextDecoder decoder(tokenizer);
    std::vector<std::string> pieces;
    for (const char c : bytes) pieces.push_back(decoder.push(static_cast<unsigned char>(c)));
    pieces.push_back(decoder.finish());
    return pieces;
  };
  using Pieces = std::vector<std::string>;
  CHECK(decode("ab") == Pieces{"a", "b", ""});
  CHECK(decode("\xC3\xA4") == Pieces{"", "\xC3\xA4", ""});
  CHECK(decode("\xF0\x9F\x98\x80") == Pieces{"", "", "", "\xF0\x9F\x98\x80", ""});
  const std::string bad = "\xEF\xBF\xBD";
  CHECK(decode("\xC3") == Pieces{"", bad});
  CHECK(decode("\x80z") == Pieces{bad, "z", ""});
  CHECK(decode("\xC3z") == Pieces{"", bad + "z", ""});
  CHECK(decode("\xED\xA0") == Pieces{"", bad + bad, ""});  // a surrogate
  CHECK(decode("\xC0\xAF") == Pieces{bad, bad, ""});       // overlong
  CHECK(decode("\xF4\x90") == Pieces{"", bad + bad, ""});  // beyond U+10FFFF
  CHECK(decode("\xE2\x82"
               "A") == Pieces{"", "", bad + bad + "A", ""});
}
