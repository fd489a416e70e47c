// A SentencePiece tokenizer with byte fallback: pieces of text, and one token per byte that no
// piece covers. Lossless: text is not normalized, regardless of the model file; bytes that are not
// UTF-8, zero bytes and U+2581, which the library uses for spaces, become byte tokens. Models of
// others, such as Llama's, keep their begin token and the blank before a document.
#pragma once
#include <array>
#include <memory>
#include <vector>

#include "train/tokenizer/segment_cache.h"
#include "train/tokenizer/sentencepiece_model.h"
#include "train/tokenizer/tokenizer.h"

namespace sentencepiece {
class SentencePieceProcessor;
}

namespace smoe {

/// A trained model; its end-of-sentence token `</s>` is end_of_text, and its begin-of-sentence
/// token
/// `<s>` is begin_of_text unless smoe trained it.
class SentencePieceTokenizer : public Tokenizer {
 public:
  /// `model`: the contents of a model file; `path` stands for it in messages.
  /// Throws: UsageError when it is not a model, is damaged, or lacks byte fallback or `</s>`.
  explicit SentencePieceTokenizer(const std::string& model, const std::string& path);
  ~SentencePieceTokenizer() override;

  std::int32_t vocab_size() const override { return static_cast<std::int32_t>(bytes_.size()); }
  std::int32_t end_of_text() const override { return end_of_text_; }
  std::int32_t begin_of_text() const override { return begin_of_text_; }
  std::string_view document_prefix() const override {
    return settings_.adds_prefix && !settings_.is_own ? " " : "";
  }
  /// Throws: UsageError when decoding the tokens would not reproduce the text.
  void encode(std::string_view text, std::vector<std::int32_t>& tokens) const override;
  std::size_t settled_prefix(std::string_view text) const override;
  const std::string& bytes_of(std::int32_t token) const override;
  std::string summary() const override;
  std::string file_name() const override { return "tokenizer.model"; }
  /// canonical_model: without normalization rules, so that other programs that load it are lossless
  /// too.
  const std::string& file_bytes() const override { return model_; }
  /// A token's name in the model: "</s>". Throws: as bytes_of.
  std::string piece_of(std::int32_t token) const;
  enum class Kind : std::uint8_t { normal, byte, control, unknown, unused };
  Kind kind_of(std::int32_t token) const;
  /// The priority of the merge that forms the token, higher first, in a BPE model.
  float score_of(std::int32_t token) const;
  bool is_bpe() const { return settings_.is_bpe; }
  /// The unknown token, which encode never returns.
  std::int32_t unknown() const;

 private:
  void find_bytes();
  void find_boundaries();
  bool is_boundary(std::string_view text, std::size_t position) const;
  std::size_t segment_length(std::string_view text) const;
  void encode_segment(std::string_view segment, std::vector<std::int32_t>& tokens) const;

  SentencePieceSettings settings_;
  std::string model_;
  std::string path_;
  std::unique_ptr<sentencepiece::SentencePieceProcessor> processor_;
  std::int32_t end_of_text_ = 0, begin_of_text_ = 0;
  std::vector<std::string> bytes_;            // [vocab_size], the bytes of each token
  std::array<std::int32_t, 256> byte_ids_{};  // the token of each byte
  bool cuts_before_blanks_ = true;            // no piece spans this boundary
  bool cuts_after_newlines_ = true;
  mutable SegmentCaches caches_;
};

}  // namespace smoe
