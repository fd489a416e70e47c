// Tokenizers whose files are JSON: tokenizer.json of Hugging Face's tokenizers library, and what
// token sets and runs keep.
#pragma once
#include <memory>
#include <string>
#include <string_view>

#include "train/tokenizer/tokenizer.h"

namespace smoe {

/// Limit of the nesting of a tokenizer's JSON files.
inline constexpr std::size_t kMaxTokenizerDepth = 32;

/// Whether a tokenizer's file is JSON and not a SentencePiece model.
bool is_tokenizer_json(std::string_view file);

/// The tokenizer that `text`, the contents of the file `path`, describes, however it is written:
/// byte-level BPE, SentencePiece BPE with byte fallback, or bytes. `end_token`: the name of the
/// token that ends text, from tokenizer_config.json; empty: a usual one.
/// Throws: UsageError, naming the setting, when it is no such file or has what is not supported.
std::unique_ptr<Tokenizer> read_tokenizer_json(const std::string& text, const std::string& path,
                                               const std::string& end_token);

/// The name of the token that ends text in a model's `folder`, by its tokenizer_config.json; empty
/// if there is none. Throws: UsageError, SystemError.
std::string end_token_name(const std::string& folder);

/// The name of the end-of-text token of the tokenizer of bytes in tokenizer.json.
inline constexpr const char* kEndOfText = "<|endoftext|>";

/// The text of tokenizer.json for a tokenizer of bytes: a byte-level BPE without merges.
std::string byte_tokenizer_json();

}  // namespace smoe
