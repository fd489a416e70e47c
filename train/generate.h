// Generation of text from a trained model.
#pragma once
#include <functional>
#include <string>

#include "layers/transformer.h"
#include "train/data/tokenizer.h"
#include "train/sampling.h"

namespace smoe {

struct GenerateOptions {
  std::int64_t max_tokens = 200;
  std::int64_t max_context =
      0;  ///< tokens the model looks back on: the seq_len it was trained with
  std::uint64_t seed = 0;
  SamplingOptions sampling;
};

/// Continues `prompt`, calling `on_text` with each piece of whole UTF-8 characters as it is made,
/// until max_tokens or end of text. An empty prompt begins a new document.
void generate(Transformer& model, const Tokenizer& tokenizer, const std::string& prompt,
              const GenerateOptions& options, const std::function<void(std::string)>& on_text);

}  // namespace smoe
