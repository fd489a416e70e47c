#include "train/data/open_token_set.h"

#include "core/base/check.h"
#include "core/system/folder.h"

namespace smoe {

void check_token_set(const TokenSet& set, const TokenSpace& space) {
  const auto tokenizer = set.tokenizer();
  SMOE_CHECK(!space.tokenizer || tokenizer->digest() == *space.tokenizer, set.path(),
             ": must be made with the tokenizer of ", space.owner, "; got ", tokenizer->summary(),
             "; prepare its text again with the same tokenizer");
  SMOE_CHECK(set.vocab_size() <= space.vocab_size, set.path(), ": its vocabulary of ",
             set.vocab_size(), " tokens must fit that of ", space.owner, ", which has ",
             space.vocab_size);
}

TokenSet open_first_token_set(const std::string& key, const std::string& path) {
  SMOE_CHECK(kind_of(path) != PathKind::none, key, ": there is no ", path,
             "; make it with `smoe prepare`");
  return TokenSet::open(path);
}

TokenSet open_token_set(const std::string& key, const std::string& path, const TokenSpace& space) {
  TokenSet set = open_first_token_set(key, path);
  check_token_set(set, space);
  return set;
}

TokenSpace token_space_of(const TokenSet& set) {
  const auto tokenizer = set.tokenizer();
  return {.vocab_size = set.vocab_size(), .tokenizer = tokenizer->digest(), .owner = set.path()};
}

}  // namespace smoe
