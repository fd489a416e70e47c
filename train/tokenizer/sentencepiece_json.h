// tokenizer.json of Hugging Face's tokenizers library for SentencePiece BPE with byte fallback, as
// in Llama 2 and Mixtral, to and from a SentencePiece model.
#pragma once
#include <nlohmann/json_fwd.hpp>
#include <string>

#include "train/tokenizer/sentencepiece_tokenizer.h"

namespace smoe {

/// Whether `json`, a tokenizer.json, marks spaces as SentencePiece does and has byte fallback.
bool is_sentencepiece_json(const nlohmann::json& json);

/// The SentencePiece model for such a file. `end_token`: the name of the token that ends text;
/// empty: "</s>".
/// Throws: UsageError naming `path`; nlohmann's exceptions for a value of another type.
std::string sentencepiece_model_of(const nlohmann::json& json, const std::string& path,
                                   const std::string& end_token);

/// The text of tokenizer.json for a BPE model; its tokens are those of the model for all text
/// without zero bytes, invalid UTF-8 and U+2581. `tokenizer.is_bpe()` must hold.
std::string sentencepiece_json(const SentencePieceTokenizer& tokenizer);

}  // namespace smoe
