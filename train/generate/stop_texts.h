// StopTexts: ends generated text in front of the first of some texts, however it is cut into
// pieces.
#pragma once
#include <string>
#include <string_view>
#include <vector>

namespace smoe {

class StopTexts {
 public:
  /// Throws: UsageError when one of them is empty.
  explicit StopTexts(std::vector<std::string> texts);

  /// Takes the next piece and returns what may be written now: nothing from the first stop text
  /// on, and not yet what could turn out to begin one.
  std::string push(std::string_view piece);
  /// What was held back, at the end of the text.
  std::string finish();
  /// Whether a stop text came.
  bool is_reached() const { return is_reached_; }

 private:
  std::size_t held_back() const;

  std::vector<std::string> texts_;
  std::string pending_;
  bool is_reached_ = false;
};

}  // namespace smoe
