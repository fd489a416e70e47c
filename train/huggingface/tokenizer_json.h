// tokenizer.json of Hugging Face's tokenizers library: SentencePiece BPE with byte fallback, as in
// Llama and Mixtral, to and from a SentencePiece model; and the byte-level tokenizer.
#pragma once
#include <cstddef>
#include <memory>
#include <string>

#include "train/data/sentencepiece_tokenizer.h"

namespace smoe {

/// Limit of the nesting of a tokenizer's JSON files.
inline constexpr std::size_t kMaxTokenizerDepth = 32;

/// The name of the end-of-text token of the tokenizer of bytes.
inline constexpr const char* kEndOfText = "<|endoftext|>";

/// The text of tokenizer.json for a tokenizer of bytes: a byte-level BPE without merges.
std::string byte_tokenizer_json(const ByteTokenizer& tokenizer);

/// The text of tokenizer.json for a BPE model; its tokens are those of the model for all text
/// without zero bytes, invalid UTF-8 and U+2581. `tokenizer.is_bpe()` must hold.
std::string sentencepiece_json(const SentencePieceTokenizer& tokenizer);

struct JsonTokenizer {
  std::unique_ptr<Tokenizer> tokenizer;  ///< nullptr: of a kind that is not supported
  std::string reason{};                  ///< which setting is not supported
};

/// The tokenizer that `text`, the contents of the file `path`, describes, however it is written.
/// `end_token`: the name of the token that ends text, from tokenizer_config.json; empty: "</s>".
/// Throws: UsageError when it is not such a file.
JsonTokenizer read_tokenizer_json(const std::string& text, const std::string& path,
                                  const std::string& end_token);

}  // namespace smoe
