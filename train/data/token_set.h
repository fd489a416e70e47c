// Reads a token set (format: token_set_format.h). Every byte is verified against its digest before
// use: header, metadata and the table of digests on opening, the data block by block on first
// access. What is read again is compared page by page with what was verified, so a file that
// changes while it is open is never trained on. Token ids are checked against the vocabulary.
#pragma once
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "core/system/file.h"
#include "train/data/token_set_format.h"
#include "train/tokenizer/tokenizer.h"

namespace smoe {

/// An open token set. Thread-safe: one read at a time.
class TokenSet {
 public:
  /// Throws: SystemError when the file cannot be read; UsageError, naming the file and the problem,
  /// when it is not a token set, has another version, is truncated or is damaged.
  static TokenSet open(const std::string& path);

  const std::string& path() const { return file_.path(); }
  std::int64_t vocab_size() const { return header_.vocab_size; }
  /// Tokens of a split, including the end-of-text token before each document.
  std::int64_t num_tokens(Split split) const { return header_.num_tokens[static_cast<int>(split)]; }
  std::int64_t num_documents(Split split) const {
    return header_.num_documents[static_cast<int>(split)];
  }
  /// Bytes of text that the split encodes.
  std::int64_t num_bytes(Split split) const { return header_.text_bytes[static_cast<int>(split)]; }
  SplitRule split_rule() const { return header_.split_rule; }
  /// Digest of the contents: tokens, documents, tokenizer and split.
  Digest digest() const { return header_.content_digest(); }
  /// The tokenizer of the set. Throws: UsageError when it is damaged; SystemError.
  std::unique_ptr<Tokenizer> tokenizer() const;

  /// Copies tokens [begin, begin + count) of a split to `target`, each in [0, vocab_size).
  /// Throws: UsageError when the range exceeds the split, or the bytes are damaged or have changed
  /// since they were verified; SystemError.
  void read(Split split, std::int64_t begin, std::int64_t count, std::int32_t* target) const;
  /// Position of each document's first token in its split.
  std::vector<std::int64_t> document_starts(Split split) const;

 private:
  TokenSet(File file, const TokenSetHeader& header) : file_(std::move(file)), header_(header) {}

  void find_datasets(const std::string& metadata);
  void read_digests();
  void read_bytes(std::int64_t offset, void* target, std::int64_t bytes) const;
  void check_block(std::int64_t block) const;
  void read_page(std::int64_t page, std::int64_t begin, std::int64_t end, char* target) const;

  std::unique_ptr<std::mutex> mutex_ = std::make_unique<std::mutex>();  // of the mutable members
  File file_;
  TokenSetHeader header_;
  Hdf5Dataset tokens_[kNumSplits];
  Hdf5Dataset documents_[kNumSplits];
  Hdf5Dataset tokenizer_;
  Hdf5Dataset digests_table_;
  std::vector<Digest> digests_;  // one per block
  // Of the pages of each block that was verified, empty for the others: a window is read with its
  // pages, not with whole blocks.
  mutable std::vector<std::vector<Digest>> page_digests_;
  mutable std::string narrow_;  // tokens of the last read, as stored
  mutable std::string page_;    // the last page read
};

}  // namespace smoe
