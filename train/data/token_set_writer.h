// Writes a token set while the text comes in: parts of the text are encoded on all threads and
// written in their order, so the file is the same for any number of threads. Memory grows by 8
// bytes a document and 16 bytes a MiB of tokens, the tables at the file's end. The file appears
// under its name when it is whole.
#pragma once
#include <deque>
#include <future>
#include <string>
#include <string_view>
#include <vector>

#include "core/system/file.h"
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
  /// Adds text to the document; it may be cut anywhere.
  /// Throws: what Tokenizer::encode throws for this or earlier text; SystemError.
  void append(std::string_view text);
  /// Writes the rest and makes the file durable. Returns its header.
  /// Throws: UsageError without a training document; SystemError.
  TokenSetHeader finish();

 private:
  // Text to encode at once: documents, or parts of them.
  struct Work {
    std::string text;
    std::vector<std::size_t> starts;  // where documents begin in `text`
  };
  struct Encoded {
    std::vector<std::int32_t> tokens;
    std::vector<std::size_t> starts;  // of the documents in `tokens`
  };

  static Encoded encode(const Tokenizer& tokenizer, const Work& work);
  std::size_t cut_of(const Work& work) const;
  void begin_encoding(std::size_t cut);
  void finish_encoding();
  void put_oldest();
  void put_tokens(const std::vector<std::int32_t>& tokens);
  void put_bytes(const void* data, std::int64_t bytes);
  void put_block();

  const Tokenizer& tokenizer_;
  AtomicFile target_;
  TokenSetHeader header_;
  Split split_ = Split::train;
  Work gathered_;
  std::vector<std::uint16_t> narrow_;  // the last tokens in two bytes each
  std::string block_;                  // bytes of the block that is not full yet
  std::int64_t end_ = 0;               // of the blocks written so far
  std::vector<std::uint64_t> digests_;
  std::vector<std::uint64_t> documents_[kNumSplits];
  std::deque<std::future<Encoded>> encoding_;  // last, so that its threads end first
};

}  // namespace smoe
