// Tokenizer files in the folder of a Hugging Face model.
#pragma once
#include <memory>
#include <string>
#include <vector>

#include "train/tokenizer/tokenizer.h"

namespace smoe {

struct TokenizerFound {
  std::unique_ptr<Tokenizer> tokenizer;  ///< nullptr: the folder has no supported tokenizer
  std::string reason{};                  ///< why not
};

/// The tokenizer in a model's folder: tokenizer.model, a SentencePiece model with byte fallback; or
/// tokenizer.json of a kind that tokenizer_json.h names. Throws: SystemError.
TokenizerFound read_tokenizer_files(const std::string& folder);

/// Writes the files from which AutoTokenizer constructs an equivalent tokenizer: the same ids, with
/// begin_of_text first if special tokens are requested. `max_positions`: context length in tokens.
/// Returns the names of the files.
std::vector<std::string> write_tokenizer_files(const Tokenizer& tokenizer,
                                               const std::string& folder,
                                               std::int64_t max_positions);

}  // namespace smoe
