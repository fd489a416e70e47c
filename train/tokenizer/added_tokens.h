// Tokens that were added to a vocabulary: where a text has their contents, it is not split there.
#pragma once
#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace smoe {

struct AddedToken {
  std::int32_t id = 0;
  std::string content;
  bool is_special = false;     ///< a control token, which text never becomes
  bool is_normalized = false;  ///< found in the normalized text, not in the text as given

  bool operator==(const AddedToken&) const = default;
};

/// Finds added tokens in texts, the leftmost first and of these the longest.
class AddedTokenFinder {
 public:
  /// Those of `tokens` whose is_normalized is as given. Contents are not empty.
  AddedTokenFinder(const std::vector<AddedToken>& tokens, bool is_normalized);

  struct Match {
    std::int32_t id;
    std::size_t begin, end;
  };
  /// The first match in `text` at or after `position`. Special tokens hide what they overlap
  /// but are not returned.
  std::optional<Match> find(std::string_view text, std::size_t position) const;
  /// Length of the prefix of `text` in which no match depends on what follows the text.
  std::size_t settled_prefix(std::string_view text) const;

 private:
  const AddedToken* match_at(std::string_view text) const;

  std::array<std::vector<AddedToken>, 256> by_first_byte_;  // longest first
  std::size_t max_bytes_ = 0;
};

}  // namespace smoe
