// Splits text into the pieces that a byte-level tokenizer encodes one by one: what a regular
// expression matches, and what lies between its matches.
#pragma once
#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace smoe {

/// Part of a text: [begin, end) in bytes.
struct TextRange {
  std::size_t begin = 0, end = 0;
};

/// Several expressions, each of which splits the pieces of the one before. Thread-safe.
class TextSplitter {
 public:
  /// `patterns`: as in tokenizer.json; ruby_pattern.h says which are known. None: text is one
  /// piece. Throws: UsageError, naming `place`, for a pattern that is not known, or matches empty
  /// text.
  TextSplitter(const std::vector<std::string>& patterns, const std::string& place);
  ~TextSplitter();
  TextSplitter(TextSplitter&&) noexcept;
  TextSplitter& operator=(TextSplitter&&) noexcept;

  /// The pieces of `text`, valid UTF-8, in order. Throws: UsageError when matching takes too long,
  /// which patterns of hostile files can; SystemError.
  std::vector<TextRange> split(std::string_view text) const;
  /// The first pieces of `text`, which stay the same whatever follows it; the last of them may end
  /// before the text does. Throws: as split.
  std::vector<TextRange> settled_pieces(std::string_view text) const;

 private:
  class Pattern;
  std::vector<Pattern> patterns_;
};

}  // namespace smoe
