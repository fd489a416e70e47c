// Writes a token set while the text comes in, in memory that does not grow with the text. The file
// appears under its name when it is whole.
#pragma once
#include <string>
#include <string_view>
#include <vector>

#include "core/io.h"
#include "train/data/token_set_format.h"
#include "train/data/tokenizer.h"

namespace smoe {

class TokenSetWriter {
 public:
  /// `tokenizer` must outlive the writer. Throws: SystemError when the file cannot be made.
  TokenSetWriter(const std::string& path, const Tokenizer& tokenizer);

  /// Begins a document: its end-of-text token is written in front of it. All documents of the
  /// training split come before those of the validation split.
  void begin_document(Split split);
  /// Encodes more text of the document.
  void append(std::string_view text);
  /// Writes the rest and makes the file durable. Returns its header.
  /// Throws: UsageError without a training document; SystemError.
  TokenSetHeader finish();

 private:
  void put_tokens();
  void put_bytes(const void* data, std::int64_t bytes);
  void put_block();

  const Tokenizer& tokenizer_;
  AtomicFile target_;
  TokenSetHeader header_;
  Split split_ = Split::train;
  std::vector<std::int32_t> tokens_;   // of the last call
  std::vector<std::uint16_t> narrow_;  // the same in two bytes each
  std::string block_;                  // bytes of the block that is not full yet
  std::int64_t end_ = 0;               // of the blocks written so far
  std::vector<std::uint64_t> digests_;
  std::vector<std::uint64_t> documents_[kNumSplits];
};

}  // namespace smoe
