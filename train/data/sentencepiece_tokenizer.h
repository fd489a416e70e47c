// A tokenizer of SentencePiece with byte fallback: pieces of text, and a token for each byte that
// no piece covers. Lossless: text is not normalised and nothing is put in front of it, whatever the
// model file says; bytes that are no UTF-8, zero bytes and U+2581, which the library uses for
// blanks, become byte tokens.
#pragma once
#include <array>
#include <memory>
#include <mutex>
#include <vector>

#include "train/data/tokenizer.h"

namespace sentencepiece {
class SentencePieceProcessor;
}

namespace smoe {

/// A trained model; its end-of-sentence token `</s>` is the end of text.
class SentencePieceTokenizer : public Tokenizer {
 public:
  /// `model` is the content of a file of the library; `path` stands for it in messages.
  /// Throws: UsageError when it is none, damaged, or without byte fallback or end of sentence.
  explicit SentencePieceTokenizer(const std::string& model, const std::string& path);
  ~SentencePieceTokenizer() override;

  std::int32_t vocab_size() const override { return static_cast<std::int32_t>(bytes_.size()); }
  std::int32_t end_of_text() const override { return end_of_text_; }
  /// Throws: UsageError when the model does not give back a text it encodes.
  void encode(std::string_view text, std::vector<std::int32_t>& tokens) const override;
  std::size_t settled_prefix(std::string_view text) const override;
  const std::string& bytes_of(std::int32_t token) const override;
  std::string summary() const override;
  std::string file_name() const override { return "tokenizer.model"; }
  /// The model without its rules of normalisation, so that others who load it lose no text either.
  const std::string& file_bytes() const override { return model_; }
  /// What the model calls a token: "</s>". Throws: as bytes_of.
  std::string piece_of(std::int32_t token) const;
  /// The token for what has no piece, which encode never gives.
  std::int32_t unknown() const;

 private:
  class Cache;
  class CacheLease;

  void find_bytes();
  void find_borders();
  bool is_border(std::string_view text, std::size_t position) const;
  std::size_t segment_length(std::string_view text) const;
  void encode_segment(std::string_view segment, std::vector<std::int32_t>& tokens) const;

  std::string model_;
  std::string path_;
  std::unique_ptr<sentencepiece::SentencePieceProcessor> processor_;
  std::int32_t end_of_text_ = 0;
  std::vector<std::string> bytes_;            // [vocab_size], what each token stands for
  std::array<std::int32_t, 256> byte_ids_{};  // the token of each byte
  bool cuts_before_blanks_ = true;            // no piece goes on past the border
  bool cuts_after_newlines_ = true;
  mutable std::mutex caches_mutex_;
  mutable std::vector<std::unique_ptr<Cache>> idle_caches_;  // as many as threads encoded at once
};

}  // namespace smoe
