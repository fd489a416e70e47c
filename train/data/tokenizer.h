// Tokenizers: text to token ids and back. A token set carries its tokenizer's description, so that
// a trained model needs nothing else to read and write text.
#pragma once
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "core/digest.h"

namespace smoe {

class Tokenizer {
 public:
  virtual ~Tokenizer() = default;

  /// Token ids are 0 .. vocab_size() - 1.
  virtual std::int32_t vocab_size() const = 0;
  /// The token that stands in front of each document.
  virtual std::int32_t end_of_text() const = 0;
  /// Appends the tokens of `text` (any bytes) to `tokens`. Never gives end_of_text.
  virtual void encode(std::string_view text, std::vector<std::int32_t>& tokens) const = 0;
  /// The bytes a token stands for, perhaps only a part of a UTF-8 character; none for end_of_text.
  /// Throws: UsageError for an id that is none.
  virtual std::string bytes_of(std::int32_t token) const = 0;
  /// Everything make_tokenizer needs to build this tokenizer again, as JSON.
  virtual std::string description() const = 0;

  Digest digest() const { return digest_of(description()); }
};

/// One token a byte, and end_of_text = 256.
class ByteTokenizer : public Tokenizer {
 public:
  std::int32_t vocab_size() const override { return 257; }
  std::int32_t end_of_text() const override { return 256; }
  void encode(std::string_view text, std::vector<std::int32_t>& tokens) const override;
  std::string bytes_of(std::int32_t token) const override;
  std::string description() const override;
};

/// The tokenizer that a description describes. Throws: UsageError when there is none.
std::unique_ptr<Tokenizer> make_tokenizer(const std::string& description);

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
