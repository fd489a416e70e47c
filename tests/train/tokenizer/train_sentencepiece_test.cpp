#include "train/tokenizer/train_sentencepiece.h"

#include <doctest/doctest.h>

#include "tests/support/temporary_folder.h"
#include "tests/train/tokenizer/small_model.h"
#include "train/tokenizer/sentencepiece_tokenizer.h"

using namespace smoe;

namespace {

std::string train_on(const std::string& text, std::int64_t vocab_size, std::size_t part) {
  std::string_view rest = text;
  const auto next = [&] {
    const std::string_view front = rest.substr(0, part);
    rest.remove_prefix(front.size());
    return front;
  };
  return train_sentencepiece(next, vocab_size);
}

}  // namespace

TEST_CASE("the same text gives the same model, in any division") {
  const std::string model = test::train_small_model(400);
  CHECK(model == test::small_model());
  CHECK(train_on(test::small_text(), 400, 1000) == model);
  CHECK(train_on(test::small_text(), 400, 7) == model);
  CHECK(test::train_small_model(380) != model);
}

TEST_CASE("no piece spans two words or lines") {
  const SentencePieceTokenizer tokenizer(test::small_model(), "small.model");
  bool has_word = false;
  for (std::int32_t token = 0; token < tokenizer.vocab_size(); ++token) {
    const std::string& bytes = tokenizer.bytes_of(token);
    has_word |= bytes == " expert";
    for (std::size_t i = 1; i < bytes.size(); ++i) {
      CHECK(!(bytes[i] == ' ' && bytes[i - 1] != ' '));
      CHECK(!(bytes[i] != '\n' && bytes[i - 1] == '\n'));
    }
  }
  CHECK(has_word);
}

TEST_CASE("text with tabs, zero bytes, invalid characters and long lines can be trained on") {
  std::string text = test::small_text();
  for (std::size_t i = 50; i < text.size(); i += 50)
    text.replace(i, 1,
                 i % 200 == 0   ? "\t"
                 : i % 150 == 0 ? std::string(1, '\0')
                                : "\xFF\xE2\x96\x81");
  text += std::string(100'000, 'q');
  const SentencePieceTokenizer tokenizer(train_on(text, 400, 1000), "model");
  CHECK(tokenizer.vocab_size() == 400);
}

TEST_CASE("vocabularies too large or too small for the text are refused") {
  const auto message_for = [](const std::string& text, std::int64_t vocab_size) {
    return message_of([&] { train_on(text, vocab_size, 1000); });
  };
  CHECK(message_for("", 400).starts_with("tokenizer: there is no text"));
  CHECK(message_for("\t\t\xFF", 400).starts_with("tokenizer: there is no text"));
  CHECK(message_for(test::small_text(), 32000)
            .starts_with("tokenizer: cannot train a vocabulary of 32000: "));
  CHECK(message_for(test::small_text(), 260).starts_with("tokenizer: cannot train a vocabulary"));
  for (const std::int64_t size : {-1, 0, 3, 259})
    CHECK(message_for(test::small_text(), size)
              .starts_with("tokenizer: vocab_size must be more than"));
}
