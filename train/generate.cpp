#include "train/generate.h"

#include <algorithm>

#include "autograd/tape.h"

namespace smoe {
namespace {

// Logits of the token that follows `context`; those past the tokenizer's vocabulary, which a model
// may have for padding, are left out.
std::vector<double> next_logits(Transformer& model, std::span<const std::int32_t> context,
                                std::int32_t vocab_size) {
  const auto length = static_cast<std::int64_t>(context.size());
  const Tensor ids =
      Tensor::from(std::vector<std::int32_t>(context.begin(), context.end()), Shape{length});
  const Tensor last =
      model.logits(ids, {.batch = 1, .seq_len = length}).data().rows(length - 1, length);
  return dispatch_floating(last.dtype(), [&](auto type) {
    const auto values = last.to_vector<decltype(type)>();
    return std::vector<double>(values.begin(), values.begin() + vocab_size);
  });
}

}  // namespace

void generate(Transformer& model, const Tokenizer& tokenizer, const std::string& prompt,
              const GenerateOptions& options, const std::function<void(std::string)>& on_text) {
  SMOE_CHECK(options.max_tokens >= 0, "--max-tokens: must be 0 or more; got ", options.max_tokens);
  check_sampling(options.sampling);
  const NoGradScope no_grad;
  RandomStream random(options.seed, hash_name("generate"));
  TextDecoder decoder(tokenizer);
  std::vector<std::int32_t> tokens{tokenizer.end_of_text()};
  tokenizer.encode(prompt, tokens);
  for (std::int64_t i = 0; i < options.max_tokens; ++i) {
    const auto context = std::min<std::size_t>(tokens.size(), options.max_context);
    const std::vector<double> logits =
        next_logits(model, std::span(tokens).last(context), tokenizer.vocab_size());
    const std::int32_t token = sample_token(logits, options.sampling, random);
    if (token == tokenizer.end_of_text()) break;
    tokens.push_back(token);
    on_text(decoder.push(token));
  }
  on_text(decoder.finish());
}

}  // namespace smoe
