// Byte-level BPE: text is split by regular expressions, and the bytes of each piece are merged.
#pragma once
#include <array>
#include <functional>
#include <unordered_map>
#include <vector>

#include "train/tokenizer/bpe_merges.h"
#include "train/tokenizer/byte_level_model.h"
#include "train/tokenizer/segment_cache.h"
#include "train/tokenizer/text_splitter.h"
#include "train/tokenizer/tokenizer.h"

namespace smoe {

/// Encodes as Hugging Face's tokenizers do, but text never becomes a special token, and bytes that
/// are not UTF-8 become the tokens of these bytes. With normalization, tokens reproduce the
/// normalized text.
class ByteLevelTokenizer : public Tokenizer {
 public:
  /// `path` stands for the tokenizer's file in messages.
  /// Throws: UsageError for a pattern that is not known.
  ByteLevelTokenizer(ByteLevelModel model, const std::string& path);

  std::int32_t vocab_size() const override { return static_cast<std::int32_t>(bytes_.size()); }
  std::int32_t end_of_text() const override { return model_.end_of_text; }
  std::int32_t begin_of_text() const override { return model_.begin_of_text; }
  bool begins_prompts() const override { return model_.begins_prompts; }
  void encode(std::string_view text, std::vector<std::int32_t>& tokens) const override;
  std::size_t settled_prefix(std::string_view text) const override;
  const std::string& bytes_of(std::int32_t token) const override;
  std::string summary() const override;
  std::string file_name() const override { return "tokenizer.json"; }
  const std::string& file_bytes() const override { return file_; }
  const ByteLevelModel& model() const { return model_; }

 private:
  class Encoding;

  std::size_t settled_normalized(std::string_view text,
                                 const std::function<bool(std::size_t)>& is_cut) const;

  ByteLevelModel model_;
  std::string file_;
  TextSplitter splitter_;
  AddedTokenFinder raw_tokens_, normalized_tokens_;
  BpeMerges merges_;
  std::vector<std::string> bytes_;            // [vocab_size], the bytes of each token
  std::array<std::int32_t, 256> byte_ids_{};  // the token of each byte
  // By their bytes, the tokens that text can become in one.
  std::unordered_map<std::string, std::int32_t, TransparentHash, std::equal_to<>> ids_;
  mutable SegmentCaches caches_;
};

}  // namespace smoe
