// StopTexts: ends streamed text before the first occurrence of any of several texts, which may span
// pieces.
#pragma once
#include <string>
#include <string_view>
#include <vector>

namespace smoe {

class StopTexts {
 public:
  /// Throws: UsageError if one is empty.
  explicit StopTexts(std::vector<std::string> texts);

  /// Takes the next piece and returns the text that can be written: up to the first stop text, and
  /// without a suffix that may be the beginning of one.
  std::string push(std::string_view piece);
  /// The text held back, at the end of the stream.
  std::string finish();
  /// Whether a stop text occurred.
  bool is_reached() const { return is_reached_; }

 private:
  std::size_t held_back() const;

  std::vector<std::string> texts_;
  std::string pending_;
  bool is_reached_ = false;
};

}  // namespace smoe
