// Tokenizers as Hugging Face's tools keep them in a model's folder.
#pragma once
#include <memory>
#include <string>
#include <vector>

#include "train/data/tokenizer.h"

namespace smoe {

struct TokenizerFound {
  std::unique_ptr<Tokenizer> tokenizer;  ///< null: the folder has none that we can be
  std::string reason{};                  ///< why, then
};

/// The tokenizer in the model folder `folder`: a SentencePiece model with byte fallback, or the
/// byte-level one as write_tokenizer_files leaves it. Throws: SystemError.
TokenizerFound read_tokenizer_files(const std::string& folder);

/// Writes to `folder` what AutoTokenizer builds the same tokenizer from: the same ids, with
/// end_of_text in front where special tokens are asked for. `max_positions`: tokens of context.
/// Returns the names of the files.
std::vector<std::string> write_tokenizer_files(const Tokenizer& tokenizer,
                                               const std::string& folder,
                                               std::int64_t max_positions);

}  // namespace smoe
