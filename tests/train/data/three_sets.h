// Three small token sets and the configuration that blends them.
#pragma once
#include <string>

#include "tests/support/temporary_folder.h"
#include "train/config/config.h"
#include "train/data/token_set_writer.h"

namespace smoe::test {

inline std::string words(int count, const std::string& word) {
  std::string text;
  for (int i = 0; i < count; ++i) text += word + std::to_string(i) + " ";
  return text;
}

inline void write_text_set(const std::string& path, const std::string& train,
                           const std::string& validation,
                           const Tokenizer& tokenizer = ByteTokenizer()) {
  TokenSetWriter writer(path, tokenizer);
  writer.begin_document(Split::train);
  writer.append(train);
  if (!validation.empty()) writer.begin_document(Split::validation);
  writer.append(validation);
  writer.finish();
}

/// Sets "web", "code" and "few" with the weights 5, 3 and 1; "few" has no validation text.
struct ThreeSets {
  TemporaryFolder folder;
  DataConfig config{"",
                    {{"web", folder / "web.h5", 5},
                     {"code", folder / "code.h5", 3},
                     {"few", folder / "few.h5", 1}},
                    ""};
  ThreeSets() {
    write_text_set(folder / "web.h5", words(2000, "w"), "web text");
    write_text_set(folder / "code.h5", words(700, "c"), "code text");
    write_text_set(folder / "few.h5", words(30, "f"), "");
  }
};

}  // namespace smoe::test
