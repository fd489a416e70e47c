// Runs of prepare, and what they wrote.
#pragma once
#include <string>
#include <vector>

#include "train/data/prepare.h"
#include "train/data/token_set.h"

namespace smoe::test {

inline PrepareSummary run(const PrepareOptions& options) {
  return prepare(options, [](const char*, std::int64_t, std::int64_t) {});
}

// A split as text, with marked documents.
inline std::string split_text(const std::string& path, Split split) {
  const TokenSet set = TokenSet::open(path);
  std::vector<std::int32_t> tokens(static_cast<std::size_t>(set.num_tokens(split)));
  set.read(split, 0, set.num_tokens(split), tokens.data());
  std::string text;
  for (const std::int32_t token : tokens) {
    if (token == 256) {
      text += "|";
    } else {
      text += static_cast<char>(token);
    }
  }
  return text;
}

}  // namespace smoe::test
