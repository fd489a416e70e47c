#include "train/tokenizer/added_tokens.h"

#include <algorithm>

namespace smoe {

AddedTokenFinder::AddedTokenFinder(const std::vector<AddedToken>& tokens, bool is_normalized) {
  for (const AddedToken& token : tokens) {
    if (token.is_normalized != is_normalized) continue;
    by_first_byte_[static_cast<unsigned char>(token.content[0])].push_back(token);
    max_bytes_ = std::max(max_bytes_, token.content.size());
  }
  for (auto& list : by_first_byte_)
    std::stable_sort(list.begin(), list.end(), [](const AddedToken& a, const AddedToken& b) {
      return a.content.size() > b.content.size();
    });
}

const AddedToken* AddedTokenFinder::match_at(std::string_view text) const {
  for (const AddedToken& token : by_first_byte_[static_cast<unsigned char>(text[0])])
    if (text.starts_with(token.content)) return &token;
  return nullptr;
}

std::optional<AddedTokenFinder::Match> AddedTokenFinder::find(std::string_view text,
                                                              std::size_t position) const {
  if (max_bytes_ == 0) return {};
  while (position < text.size()) {
    const AddedToken* token = match_at(text.substr(position));
    if (token && !token->is_special)
      return Match{token->id, position, position + token->content.size()};
    position += token ? token->content.size() : 1;
  }
  return {};
}

std::size_t AddedTokenFinder::settled_prefix(std::string_view text) const {
  std::size_t begin = text.size() - std::min(text.size(), max_bytes_ > 0 ? max_bytes_ - 1 : 0);
  for (; begin < text.size(); ++begin) {
    const std::string_view rest = text.substr(begin);
    for (const AddedToken& token : by_first_byte_[static_cast<unsigned char>(rest[0])])
      if (token.content.size() > rest.size() && token.content.starts_with(rest)) return begin;
  }
  return text.size();
}

}  // namespace smoe
