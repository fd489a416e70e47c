// Text generation from a trained model, token by token, with a key-value cache.
#pragma once
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "layers/transformer.h"
#include "train/generate/sampling.h"
#include "train/tokenizer/tokenizer.h"

namespace smoe {

struct GenerateOptions {
  std::int64_t max_tokens = 200;
  /// Maximum context length in tokens, prompt included. Positions beyond the training seq_len are
  /// untrained.
  std::int64_t context = 0;
  std::uint64_t seed = 0;
  SamplingOptions sampling;
  std::vector<std::string> stop_texts = {};    ///< text ends before the first occurrence of one
  std::vector<std::int32_t> stop_tokens = {};  ///< besides the tokenizer's end_of_text
};

struct GenerateSummary {
  enum class Ending : std::uint8_t { max_tokens, end_of_text, stop };

  std::int64_t prompt_tokens = 0;  ///< including the begin_of_text before it
  std::int64_t tokens = 0;         ///< sampled, including the one that ended the text
  double prompt_s = 0;             ///< time of the prompt's forward passes
  double tokens_s = 0;             ///< time of generation
  Ending ending = Ending::max_tokens;
};

/// Continues `prompt` and streams the text to `on_text` in pieces of complete UTF-8 characters,
/// until max_tokens, end of text, a stop token or a stop text; the last three are not written. An
/// empty prompt begins a new document. When the text exceeds the context, its newer half is kept
/// and recomputed from position 0. Deterministic for a given seed.
/// Throws: UsageError for options out of range, or a prompt that exceeds the context.
GenerateSummary generate(Transformer& model, const Tokenizer& tokenizer, std::string_view prompt,
                         const GenerateOptions& options,
                         const std::function<void(const std::string&)>& on_text);

}  // namespace smoe
