// Writes a token set from streamed text: chunks of text are encoded on all threads and written in
// order, so the file does not depend on the number of threads. Memory grows by 8 bytes per document
// and 16 bytes per MiB of tokens, for the tables at the end of the file.
#pragma once
#include <deque>
#include <future>
#include <string>
#include <string_view>
#include <vector>

#include "core/system/file.h"
#include "train/data/token_set_format.h"
#include "train/tokenizer/tokenizer.h"

namespace smoe {

/// Writes one file, which appears under its name when it is complete.
class TokenSetWriter {
 public:
  /// `tokenizer` must outlive the writer; `rule`: how the splits were chosen. Throws: SystemError
  /// when the file cannot be created.
  TokenSetWriter(const std::string& path, const Tokenizer& tokenizer,
                 SplitRule rule = SplitRule::tail);

  /// Begins a document, which starts with the tokenizer's begin_of_text; its document_prefix is
  /// encoded with the text, and end_of_text, if another token, follows it. All training documents
  /// precede the validation documents.
  void begin_document(Split split);
  /// Appends text, cut at any byte, to the current document.
  /// Throws: what Tokenizer::encode throws for this or earlier text; SystemError.
  void append(std::string_view text);
  /// Writes the remaining data and makes the file durable. Returns its header.
  /// Throws: UsageError without a training document; SystemError.
  TokenSetHeader finish();

 private:
  // Text that is encoded in one task: documents, or parts of them.
  struct TextChunk {
    std::string text;
    std::vector<std::size_t> starts{};  // offsets of documents in `text`
    bool begins_split = false;          // the first of them is the first of its split
  };
  struct Encoded {
    std::vector<std::int32_t> tokens;
    std::vector<std::size_t> starts;  // offsets of documents in `tokens`
  };

  static Encoded encode(const Tokenizer& tokenizer, const TextChunk& chunk);
  std::size_t cut_of(const TextChunk& chunk) const;
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
  TextChunk gathered_;
  bool is_document_empty_ = true;      // the current one, until now
  std::vector<std::uint16_t> narrow_;  // staging of 16-bit tokens
  std::string block_;                  // the incomplete block
  std::int64_t end_ = 0;               // end of the blocks written so far
  std::vector<std::uint64_t> digests_;
  std::vector<std::uint64_t> documents_[kNumSplits];
  std::deque<std::future<Encoded>> encoding_;  // last member, so that its threads end first
};

}  // namespace smoe
