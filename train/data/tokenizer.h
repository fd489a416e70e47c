// Tokenizers: text to token ids and back, without loss whatever the bytes. A token set carries its
// tokenizer's file, and a run's folder does, so that a trained model needs nothing else to read and
// write text.
#pragma once
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "core/system/digest.h"

namespace smoe {

class Tokenizer {
 public:
  virtual ~Tokenizer() = default;

  /// Token ids are 0 .. vocab_size() - 1.
  virtual std::int32_t vocab_size() const = 0;
  /// The token that stands in front of each document.
  virtual std::int32_t end_of_text() const = 0;
  /// Appends the tokens of `text` (any bytes) to `tokens`. Never gives end_of_text.
  /// Safe to call from several threads at once.
  virtual void encode(std::string_view text, std::vector<std::int32_t>& tokens) const = 0;
  /// How much of the front of `text` is encoded alike whatever follows it: text may be cut there
  /// and encoded in parts. May be 0.
  virtual std::size_t settled_prefix(std::string_view text) const = 0;
  /// The bytes a token stands for, perhaps only a part of a UTF-8 character; none for end_of_text
  /// and other tokens that are no text. The bytes of encode's tokens, one after the other, are the
  /// text that was encoded.
  /// Throws: UsageError for an id that is none.
  virtual const std::string& bytes_of(std::int32_t token) const = 0;

  /// "bytes, vocabulary 257", for people.
  virtual std::string summary() const = 0;
  /// What its file is called in a folder: "tokenizer.json", "tokenizer.model".
  virtual std::string file_name() const = 0;
  /// The content of that file: all that make_tokenizer needs to build this tokenizer again.
  virtual const std::string& file_bytes() const = 0;

  Digest digest() const { return digest_of(file_bytes()); }
};

/// The largest file of a tokenizer that is read; those of 256,000 pieces have 5 MiB.
inline constexpr std::int64_t kMaxTokenizerBytes = std::int64_t{64} << 20;

/// One token a byte, and end_of_text = 256.
class ByteTokenizer : public Tokenizer {
 public:
  std::int32_t vocab_size() const override { return 257; }
  std::int32_t end_of_text() const override { return 256; }
  void encode(std::string_view text, std::vector<std::int32_t>& tokens) const override;
  std::size_t settled_prefix(std::string_view text) const override { return text.size(); }
  const std::string& bytes_of(std::int32_t token) const override;
  std::string summary() const override { return "bytes, vocabulary 257"; }
  std::string file_name() const override { return "tokenizer.json"; }
  const std::string& file_bytes() const override;
};

/// The tokenizer that a file holds: what ByteTokenizer writes, or a SentencePiece model
/// (sentencepiece_tokenizer.h). `path` stands for the file in messages.
/// Throws: UsageError when it holds none.
std::unique_ptr<Tokenizer> make_tokenizer(const std::string& file_bytes, const std::string& path);

/// The tokenizer in the file `path`. Throws: UsageError when it holds none; SystemError.
std::unique_ptr<Tokenizer> load_tokenizer(const std::string& path);

/// Turns tokens into text as they come, holding back the bytes of an unfinished UTF-8 character.
/// Bytes that are no UTF-8 become U+FFFD each.
class TextDecoder {
 public:
  explicit TextDecoder(const Tokenizer& tokenizer) : tokenizer_(tokenizer) {}

  /// The text that is complete with this token; may be empty.
  std::string push(std::int32_t token);
  /// What was held back, at the end of the tokens.
  std::string finish();

 private:
  std::string take_complete(bool is_end);

  const Tokenizer& tokenizer_;
  std::string pending_;
};

}  // namespace smoe
