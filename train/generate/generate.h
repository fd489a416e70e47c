// Generation of text from a trained model, a token at a time, with a cache of keys and values.
#pragma once
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "layers/transformer.h"
#include "train/data/tokenizer.h"
#include "train/generate/sampling.h"

namespace smoe {

struct GenerateOptions {
  std::int64_t max_tokens = 200;
  /// Tokens the model looks back on at most, of the prompt and of its own: seq_len of its training,
  /// since positions past that were never trained.
  std::int64_t context = 0;
  std::uint64_t seed = 0;
  SamplingOptions sampling;
  std::vector<std::string> stop_texts = {};    ///< text ends in front of the first of them
  std::vector<std::int32_t> stop_tokens = {};  ///< beside the tokenizer's end of text
};

struct GenerateSummary {
  enum class Ending : std::uint8_t { max_tokens, end_of_text, stop };

  std::int64_t prompt_tokens = 0;  ///< the end-of-text token in front of it included
  std::int64_t tokens = 0;         ///< drawn, the one that ended the text included
  double prompt_s = 0;             ///< reading the prompt
  double tokens_s = 0;             ///< drawing the tokens
  Ending ending = Ending::max_tokens;
};

/// Continues `prompt`, calling `on_text` with each piece of whole UTF-8 characters as it is made,
/// until max_tokens, end of text, a stop token or a stop text, none of which is written. An empty
/// prompt begins a new document. Where the text outgrows the context, the newer half of it is kept
/// and read again from position 0.
/// Throws: UsageError for options out of range, and a prompt that does not fit the context.
GenerateSummary generate(Transformer& model, const Tokenizer& tokenizer, std::string_view prompt,
                         const GenerateOptions& options,
                         const std::function<void(const std::string&)>& on_text);

}  // namespace smoe
