// Tokenizers: text to token ids and back. Token sets and run folders
// contain their tokenizer's file, so a trained model needs nothing else to read and write text.
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
  /// The token that ends a text: generation stops at it. Where it is not begin_of_text, a token set
  /// has it after each document.
  virtual std::int32_t end_of_text() const = 0;
  /// The token before each document.
  virtual std::int32_t begin_of_text() const { return end_of_text(); }
  /// Whether begin_of_text also stands before a prompt; false for models whose documents it only
  /// separates.
  virtual bool begins_prompts() const { return true; }
  /// What is put before the text of a document, unless that is empty, when it is encoded: a blank
  /// for models with SentencePiece's dummy prefix. Not part of the text: decoders remove it.
  virtual std::string_view document_prefix() const { return ""; }
  /// Appends the tokens of `text` (any bytes) to `tokens`, never control tokens. Thread-safe.
  virtual void encode(std::string_view text, std::vector<std::int32_t>& tokens) const = 0;
  /// Length of the prefix of `text` whose tokens do not depend on what follows: text may be cut
  /// there and encoded in parts. May be 0.
  virtual std::size_t settled_prefix(std::string_view text) const = 0;
  /// The bytes of a token, possibly a part of a UTF-8 character; empty for end_of_text and other
  /// control tokens. Concatenating the bytes of encode's tokens reproduces the text, or its
  /// normalized form for a tokenizer of others that normalizes.
  /// Throws: UsageError for an invalid id.
  virtual const std::string& bytes_of(std::int32_t token) const = 0;

  /// A description for people: "bytes, vocabulary 257".
  virtual std::string summary() const = 0;
  /// The name of its file in a folder: "tokenizer.json", "tokenizer.model".
  virtual std::string file_name() const = 0;
  /// The contents of that file, from which make_tokenizer constructs an equal tokenizer.
  virtual const std::string& file_bytes() const = 0;

  Digest digest() const { return digest_of(file_bytes()); }
};

/// Limit of tokenizer files; one with 256,000 pieces has 5 MiB.
inline constexpr std::int64_t kMaxTokenizerBytes = std::int64_t{64} << 20;

/// One token per byte, and end_of_text = 256.
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

/// The tokenizer in a file's contents: a SentencePiece model (sentencepiece_tokenizer.h), or JSON
/// (tokenizer_json.h). `path` stands for the file in messages.
/// Throws: UsageError when there is none.
std::unique_ptr<Tokenizer> make_tokenizer(const std::string& file_bytes, const std::string& path);

/// The tokenizer in the file `path`; a tokenizer.json's tokenizer_config.json beside it says which
/// token ends text. Throws: UsageError when there is none; SystemError.
std::unique_ptr<Tokenizer> load_tokenizer(const std::string& path);

/// Streaming decoder: holds back the bytes of an incomplete UTF-8 character. Each byte that is not
/// UTF-8 becomes U+FFFD.
class TextDecoder {
 public:
  explicit TextDecoder(const Tokenizer& tokenizer) : tokenizer_(tokenizer) {}

  /// The text that this token completes; may be empty.
  std::string push(std::int32_t token);
  /// The text held back, at the end of the tokens.
  std::string finish();

 private:
  std::string take_complete(bool is_end);

  const Tokenizer& tokenizer_;
  std::string pending_;
};

}  // namespace smoe
