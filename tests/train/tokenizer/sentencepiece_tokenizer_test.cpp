#include "train/tokenizer/sentencepiece_tokenizer.h"

#include <doctest/doctest.h>

#include <limits>

#include "core/random.h"
#include "tests/support/temporary_folder.h"
#include "tests/support/text.h"
#include "tests/train/tokenizer/small_model.h"
#include "train/tokenizer/sentencepiece_model.h"

using namespace smoe;
using namespace smoe::test;

namespace {

const SentencePieceTokenizer& small_tokenizer() {
  static const SentencePieceTokenizer tokenizer(test::small_model(), "small.model");
  return tokenizer;
}

std::vector<std::int32_t> encode(const Tokenizer& tokenizer, std::string_view text) {
  std::vector<std::int32_t> tokens;
  tokenizer.encode(text, tokens);
  return tokens;
}

std::string decode(const Tokenizer& tokenizer, const std::vector<std::int32_t>& tokens) {
  std::string text;
  for (const std::int32_t token : tokens) text += tokenizer.bytes_of(token);
  return text;
}

std::string random_bytes(RandomStream& random, std::size_t count) {
  std::string bytes;
  while (bytes.size() < count) bytes += static_cast<char>(random.below(256));
  return bytes;
}

// Words, spaces, newlines, tabs, characters of one to four bytes, and invalid ones.
std::string random_text(RandomStream& random, int num_parts) {
  static const std::vector<std::string> kParts = {"the ",
                                                  " ",
                                                  "    ",
                                                  "\n",
                                                  "\n\n",
                                                  "\t",
                                                  "word",
                                                  "12345",
                                                  "\r\n",
                                                  "\xC3\xA4",
                                                  "\xE2\x82\xAC",
                                                  "<s>",
                                                  "\xF0\x9F\x98\x80",
                                                  "\xE2\x96\x81",
                                                  "</s>",
                                                  "<0x41>",
                                                  "\xE2\x96",
                                                  "\xFF",
                                                  "\xC0\x80",
                                                  "<unk>",
                                                  "of the",
                                                  "\xEF\xBF\xBD",
                                                  "\xEF\xBB\xBF",
                                                  "A\xCC\x8A",
                                                  std::string(1, '\0'),
                                                  "\xE2\x96\x85"};
  std::string text;
  for (int i = 0; i < num_parts; ++i) text += kParts[random.below(kParts.size())];
  return text;
}

}  // namespace

TEST_CASE("decoding reproduces the text, for any bytes") {
  const SentencePieceTokenizer& tokenizer = small_tokenizer();
  CHECK(tokenizer.vocab_size() == 400);
  CHECK(tokenizer.end_of_text() == 2);
  CHECK(encode(tokenizer, "").empty());
  for (const std::string text :
       {" ", "  ", "a", "Hello", " Hello", "Hello ", "a  b   c", "\n", "\n\n\n", "\t", "\t\tx",
        "x\r\n", " \n ", "\xE2\x96\x81", "\xE2\x96", "\xEF\xAC\x81 \xE2\x91\xA0 A\xCC\x8A",
        "<s></s><unk>"}) {
    CAPTURE(text);
    CHECK(decode(tokenizer, encode(tokenizer, text)) == text);
  }
  RandomStream random(5, 6);
  for (int i = 0; i < 200; ++i) {
    const std::string bytes = random_bytes(random, random.below(400));
    CHECK(decode(tokenizer, encode(tokenizer, bytes)) == bytes);
    const std::string text = random_text(random, static_cast<int>(random.below(100)));
    const auto tokens = encode(tokenizer, text);
    CHECK(decode(tokenizer, tokens) == text);
    for (const std::int32_t token : tokens) CHECK(token > tokenizer.end_of_text());
  }
}

TEST_CASE("text like the training text has fewer tokens than bytes") {
  const std::string text = test::small_text().substr(0, 2000);
  CHECK(encode(small_tokenizer(), text).size() < text.size() / 2);
}

TEST_CASE("text cut at a settled prefix has the same tokens") {
  const SentencePieceTokenizer& tokenizer = small_tokenizer();
  RandomStream random(7, 8);
  int num_cuts = 0;
  for (int i = 0; i < 200; ++i) {
    const std::string text = random_text(random, 60);
    const auto whole = encode(tokenizer, text);
    const std::string_view front = std::string_view(text).substr(0, random.below(text.size()));
    const std::size_t cut = tokenizer.settled_prefix(front);
    REQUIRE(cut <= front.size());
    num_cuts += cut > 0;
    auto parts = encode(tokenizer, std::string_view(text).substr(0, cut));
    tokenizer.encode(std::string_view(text).substr(cut), parts);
    CHECK(parts == whole);
  }
  CHECK(num_cuts > 150);
  CHECK(tokenizer.settled_prefix("") == 0);
  CHECK(tokenizer.settled_prefix("word") == 0);
  CHECK(tokenizer.settled_prefix("two words") == 3);
  CHECK(tokenizer.settled_prefix("two  ") == 3);
}

TEST_CASE("text without boundaries is cut at the size limit without loss") {
  const std::string text(300'000, 'x');
  const auto tokens = encode(small_tokenizer(), text);
  CHECK(decode(small_tokenizer(), tokens) == text);
  std::string wide;
  while (wide.size() < 200'000) wide += "\xE2\x82\xAC";
  CHECK(decode(small_tokenizer(), encode(small_tokenizer(), wide)) == wide);
}

TEST_CASE("a character of several byte tokens is returned when it is complete") {
  const SentencePieceTokenizer& tokenizer = small_tokenizer();
  TextDecoder decoder(tokenizer);
  std::vector<std::string> shown;
  for (const std::int32_t token : encode(tokenizer, "a\xF0\x9F\x98\x80z"))
    shown.push_back(decoder.push(token));
  CHECK(decoder.finish().empty());
  CHECK(shown == std::vector<std::string>{"a", "", "", "", "\xF0\x9F\x98\x80", "z"});
  CHECK(decoder.push(tokenizer.end_of_text()).empty());
}

TEST_CASE("ids outside the vocabulary are refused; control tokens have no text") {
  const SentencePieceTokenizer& tokenizer = small_tokenizer();
  for (const std::int32_t token : {0, 1, 2}) CHECK(tokenizer.bytes_of(token).empty());
  CHECK_THROWS_AS(tokenizer.bytes_of(-1), UsageError);
  CHECK_THROWS_AS(tokenizer.bytes_of(400), UsageError);
}

TEST_CASE("a tokenizer is constructed from its file") {
  const SentencePieceTokenizer& tokenizer = small_tokenizer();
  CHECK(tokenizer.file_name() == "tokenizer.model");
  CHECK(tokenizer.file_bytes() == as_lossless_model(test::small_model(), "m"));
  const auto again = make_tokenizer(tokenizer.file_bytes(), "again");
  CHECK(again->digest() == tokenizer.digest());
  CHECK(again->vocab_size() == 400);
  CHECK(encode(*again, "some words of text") == encode(tokenizer, "some words of text"));
}

TEST_CASE("normalization rules of a model file are ignored") {
  // normalizer_spec { name: "nmt_nfkc"  add_dummy_prefix: true  remove_extra_whitespaces: true },
  // and a self-test that would fail.
  const std::string rules("\x1a\x0e\x0a\x08nmt_nfkc\x18\x01\x20\x01", 16);
  const std::string self_test("\x22\x08\x0a\x06\x0a\x01x\x12\x01y", 10);
  const SentencePieceTokenizer tokenizer(test::small_model() + rules + self_test, "rules");
  const std::string text = "  Hello  \xEF\xAC\x81sh\n";
  CHECK(contains(tokenizer.summary(), "its normalization nmt_nfkc is not applied"));
  CHECK(decode(tokenizer, encode(tokenizer, text)) == text);
  CHECK(encode(tokenizer, text) == encode(small_tokenizer(), text));
}

TEST_CASE("a model of others keeps its begin token and dummy prefix") {
  CHECK(small_tokenizer().begin_of_text() == small_tokenizer().end_of_text());
  CHECK(small_tokenizer().document_prefix().empty());
  // normalizer_spec { name: "identity"  add_dummy_prefix: true  remove_extra_whitespaces: false }
  const std::string llama =
      test::small_model() + std::string("\x1a\x0e\x0a\x08identity\x18\x01\x20\x00", 16);
  const SentencePieceTokenizer tokenizer(llama, "llama");
  CHECK(tokenizer.piece_of(tokenizer.begin_of_text()) == "<s>");
  CHECK(tokenizer.piece_of(tokenizer.end_of_text()) == "</s>");
  CHECK(tokenizer.document_prefix() == " ");
  CHECK(tokenizer.summary() ==
        "SentencePiece, vocabulary 400, documents begin with <s> and a blank");
  CHECK(tokenizer.digest() != small_tokenizer().digest());
  const auto again = make_tokenizer(tokenizer.file_bytes(), "again");
  CHECK(again->digest() == tokenizer.digest());
  CHECK(again->begin_of_text() == tokenizer.begin_of_text());
  CHECK(again->document_prefix() == " ");
}

TEST_CASE("files without a valid model give one line of error") {
  const std::string model = test::small_model();
  const auto message_for = [&](const std::string& bytes) {
    const std::string message = message_of(
        [&] { encode(SentencePieceTokenizer(bytes, "x.model"), "Hello  w\xC3\xA4rld\n"); });
    CHECK(!contains(message, "\n"));
    CHECK((message == "no error" || message.starts_with("x.model: ")));
    return message;
  };
  CHECK(contains(message_for(""), "no pieces"));
  CHECK(contains(message_for("{\"kind\": \"bytes\"}"), "x.model: no tokenizer"));
  for (std::size_t size = 0; size < model.size(); size += 97)
    CHECK(message_for(model.substr(0, size)) != "no error");
  RandomStream random(9, 10);
  for (int i = 0; i < 300; ++i) {
    std::string damaged = model;
    for (std::uint64_t flips = 1 + random.below(8); flips > 0; --flips)
      damaged[random.below(damaged.size())] = static_cast<char>(random.below(256));
    message_for(damaged);
  }
  for (int i = 0; i < 300; ++i) message_for(random_bytes(random, random.below(200)));
}

TEST_CASE("lossy models are refused with the reason") {
  const auto message = [](char tag, const std::string& body) {
    return concat(tag, static_cast<char>(body.size()), body);
  };
  const auto piece = [&](const std::string& text, const std::string& rest = "") {
    return message('\x0a', message('\x0a', text) + rest);
  };
  const std::string unknown = piece("<unk>", std::string("\x18\x02", 2));
  const auto message_for = [](const std::string& bytes) {
    return message_of([&] { SentencePieceTokenizer(bytes, "x"); });
  };
  const std::string bpe("\x12\x02\x18\x02", 4);  // trainer_spec { model_type: BPE }
  const std::string end = piece("</s>", std::string("\x18\x03", 2));
  CHECK(contains(message_for(unknown + piece("a") + bpe), "end-of-sentence"));
  CHECK(contains(message_for(unknown + end + piece("a") + bpe), "256 bytes"));
  CHECK(contains(message_for(unknown + end + piece(std::string("a\0b", 3)) + bpe),
                 "piece 2 must be text"));
  const float nan = std::numeric_limits<float>::quiet_NaN();
  const std::string bad_score =
      concat('\x15', std::string_view(reinterpret_cast<const char*>(&nan), 4));
  CHECK(contains(message_for(unknown + end + piece("a", bad_score) + bpe), "not finite"));
  const std::string long_text(2000, 'a');
  const std::string long_piece = concat("\x0a\xd3\x0f\x0a\xd0\x0f", long_text);
  CHECK(contains(message_for(unknown + long_piece), "at most 1024 bytes; got 2000"));
}
