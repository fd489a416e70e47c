#include "train/generate/stop_texts.h"

#include <algorithm>
#include <utility>

#include "core/base/check.h"

namespace smoe {

StopTexts::StopTexts(std::vector<std::string> texts) : texts_(std::move(texts)) {
  for (const std::string& text : texts_)
    SMOE_CHECK(!text.empty(), "generate: stop must not be empty; got an empty text");
}

std::string StopTexts::push(std::string_view piece) {
  if (is_reached_) return "";
  pending_ += piece;
  std::size_t end = std::string::npos;
  for (const std::string& text : texts_) end = std::min(end, pending_.find(text));
  is_reached_ = end != std::string::npos;
  if (!is_reached_) end = pending_.size() - held_back();
  std::string out = pending_.substr(0, end);
  pending_.erase(0, is_reached_ ? std::string::npos : end);
  return out;
}

std::string StopTexts::finish() {
  return std::exchange(pending_, "");
}

// Length of the longest suffix of pending_ that is a proper prefix of a stop text.
std::size_t StopTexts::held_back() const {
  std::size_t longest = 0;
  for (const std::string& text : texts_)
    for (std::size_t n = std::min(text.size() - 1, pending_.size()); n > longest; --n)
      if (std::string_view(pending_).ends_with(std::string_view(text).substr(0, n))) longest = n;
  return longest;
}

}  // namespace smoe
