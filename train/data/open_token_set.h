// Opens the token sets that a model reads. Ids of another tokenizer would index past the model's
// embedding, or mean other text, so every set is compared with the model before it is read.
#pragma once
#include <optional>
#include <string>

#include "train/data/token_set.h"

namespace smoe {

/// The token ids that a model can read.
struct TokenSpace {
  std::int64_t vocab_size = 0;        ///< ids are below it
  std::optional<Digest> tokenizer{};  ///< of the model's tokenizer; none: it has none
  std::string owner;                  ///< the file or folder that it belongs to, for messages
};

/// Throws: UsageError naming the set and `space.owner` unless the set's ids belong to `space`.
void check_token_set(const TokenSet& set, const TokenSpace& space);

/// Opens the set at `path`, the value of the configuration's `key`, for a model. Throws: UsageError
/// naming `key` when nothing is at `path`; what TokenSet::open and check_token_set throw.
TokenSet open_token_set(const std::string& key, const std::string& path, const TokenSpace& space);

/// As above for the set that defines the token space, the first training set.
TokenSet open_first_token_set(const std::string& key, const std::string& path);

/// The token space of `set`'s tokenizer.
TokenSpace token_space_of(const TokenSet& set);

}  // namespace smoe
