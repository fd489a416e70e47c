// Reads a token set (see token_set_format.h). Nothing of the file is used before its digest was
// checked: header, metadata and the table of digests on opening, the data block by block on first
// touch, and token ids must lie within the vocabulary.
#pragma once
#include <memory>
#include <string>
#include <vector>

#include "core/system/file.h"
#include "train/data/token_set_format.h"
#include "train/data/tokenizer.h"

namespace smoe {

/// An open token set. Not to be used by two threads at once.
class TokenSet {
 public:
  /// Throws: SystemError when the file cannot be read; UsageError, naming the file and what is
  /// wrong, when it is no token set, of another version, truncated or damaged.
  static TokenSet open(const std::string& path);

  const std::string& path() const { return file_.path(); }
  std::int64_t vocab_size() const { return header_.vocab_size; }
  /// Tokens of a split, end-of-text tokens in front of each document included.
  std::int64_t num_tokens(Split split) const { return header_.num_tokens[static_cast<int>(split)]; }
  std::int64_t num_documents(Split split) const {
    return header_.num_documents[static_cast<int>(split)];
  }
  /// Bytes of text the split was made from.
  std::int64_t num_bytes(Split split) const { return header_.text_bytes[static_cast<int>(split)]; }
  /// Digest of everything the set holds: tokens, documents, tokenizer and how it is split.
  Digest digest() const { return header_.content_digest(); }
  /// The tokenizer it was made with. Throws: UsageError when it is damaged; SystemError.
  std::unique_ptr<Tokenizer> tokenizer() const;

  /// Copies tokens [begin, begin + count) of a split to `target`, each in [0, vocab_size).
  /// Throws: UsageError outside of the split, or when a block touched for the first time is
  /// damaged; SystemError.
  void read(Split split, std::int64_t begin, std::int64_t count, std::int32_t* target) const;
  /// Position of each document's first token in its split.
  std::vector<std::int64_t> document_starts(Split split) const;

 private:
  TokenSet(File file, const TokenSetHeader& header) : file_(std::move(file)), header_(header) {}

  void find_datasets(const std::string& metadata);
  void read_digests();
  void read_bytes(std::int64_t offset, void* target, std::int64_t bytes) const;
  void check_block(std::int64_t block) const;

  File file_;
  TokenSetHeader header_;
  Hdf5Dataset tokens_[kNumSplits];
  Hdf5Dataset documents_[kNumSplits];
  Hdf5Dataset tokenizer_;
  Hdf5Dataset digests_table_;
  std::vector<Digest> digests_;           // of the blocks
  mutable std::vector<bool> is_checked_;  // blocks
  mutable std::string narrow_;            // tokens as the file holds them, of the last read
};

}  // namespace smoe
