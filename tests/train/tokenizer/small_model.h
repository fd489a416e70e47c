// A small SentencePiece model and the text it is trained on.
#pragma once
#include <string>
#include <utility>

#include "core/random.h"
#include "train/tokenizer/train_sentencepiece.h"

namespace smoe::test {

/// About 20 kB of generated words, lines and numbers.
inline const std::string& small_text() {
  static const std::string text = [] {
    static const char* const kWords[] = {"the",  "of",      "expert", "routes", "token", "return",
                                         "word", "between", "layers", "Hello",  "world", "if"};
    RandomStream random(21, hash_name("small text"));
    std::string out;
    for (int i = 0; i < 4000; ++i) {
      const auto word = random.below(random.below(12) + 1);
      out += kWords[word];
      out += i % 11 == 10 ? ".\n" : i % 37 == 36 ? "\n\n    " : " ";
      if (i % 29 == 28) out += std::to_string(i) + " ";
    }
    return out;
  }();
  return text;
}

/// A model of that text with `vocab_size` tokens; small_model() is cached.
inline std::string train_small_model(std::int64_t vocab_size) {
  std::string_view rest = small_text();
  return train_sentencepiece([&] { return std::exchange(rest, std::string_view()); }, vocab_size);
}
inline const std::string& small_model() {
  static const std::string model = train_small_model(400);
  return model;
}

}  // namespace smoe::test
