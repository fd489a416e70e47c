#include "train/generate/generate.h"

#include <algorithm>
#include <chrono>
#include <limits>

#include "autograd/tape.h"
#include "train/generate/stop_texts.h"

namespace smoe {
namespace {

using Clock = std::chrono::steady_clock;

double seconds_between(Clock::time_point begin, Clock::time_point end) {
  return std::chrono::duration<double>(end - begin).count();
}

constexpr std::int64_t kPrefillTokens =
    512;  // prompt tokens per forward pass: bounds the activations

// Positions and the kernels' sizes are 32-bit integers.
constexpr std::int64_t kMaxContext = std::numeric_limits<std::int32_t>::max();

// The window of past tokens that the model attends to.
class Context {
 public:
  Context(Transformer& model, std::int64_t capacity)
      : model_(model), cache_(model.new_cache(1, capacity)) {}

  // Appends `tokens` to the context and returns the logits of the next token.
  Tensor read(std::span<const std::int32_t> tokens) {
    held_.insert(held_.end(), tokens.begin(), tokens.end());
    auto fresh = static_cast<std::int64_t>(tokens.size());
    const auto num_held = static_cast<std::int64_t>(held_.size());
    if (num_held > cache_.capacity()) {
      fresh = std::max<std::int64_t>(cache_.capacity() / 2, 1);
      held_.erase(held_.begin(), held_.end() - fresh);
      cache_.clear();
    }
    Tensor logits;  // [1, V]
    for (; fresh > 0; fresh -= std::min(fresh, kPrefillTokens)) {
      const auto begin = held_.end() - fresh;
      const std::vector<std::int32_t> part(begin, begin + std::min(fresh, kPrefillTokens));
      logits = model_.next_logits(Tensor::from(part, Shape{static_cast<std::int64_t>(part.size())}),
                                  cache_);
    }
    return logits;
  }

 private:
  Transformer& model_;
  KeyValueCache cache_;
  std::vector<std::int32_t> held_;
};

// Drops the logits beyond the tokenizer's vocabulary, which a model may have as padding.
std::vector<double> logits_of_vocabulary(const Tensor& logits, std::int32_t vocab_size) {
  return dispatch_floating(logits.dtype(), [&](auto type) {
    const auto values = logits.to_vector<decltype(type)>();
    return std::vector<double>(values.begin(), values.begin() + vocab_size);
  });
}

void check_options(const GenerateOptions& options, std::int32_t vocab_size) {
  SMOE_CHECK(options.max_tokens >= 0, "generate: max_tokens must be 0 or more; got ",
             options.max_tokens);
  SMOE_CHECK(options.context > 0 && options.context <= kMaxContext,
             "generate: context must be 1 to ", kMaxContext, " tokens; got ", options.context);
  check_sampling(options.sampling);
  for (const std::int32_t token : options.stop_tokens)
    SMOE_CHECK(token >= 0 && token < vocab_size, "generate: stop_token must be from 0 to ",
               vocab_size - 1, "; got ", token);
}

std::vector<std::int32_t> encode_prompt(const Tokenizer& tokenizer, std::string_view prompt,
                                        std::int64_t context) {
  std::vector<std::int32_t> tokens;
  if (prompt.empty() || tokenizer.begins_prompts()) tokens.push_back(tokenizer.begin_of_text());
  const std::size_t num_begin = tokens.size();
  if (!prompt.empty()) tokenizer.encode(concat(tokenizer.document_prefix(), prompt), tokens);
  const auto count = static_cast<std::int64_t>(tokens.size());
  SMOE_CHECK(count <= context, "generate: prompt must fit the context of ", context, " tokens, ",
             num_begin > 0 ? "one" : "none", " of which begins the document; got ",
             tokens.size() - num_begin, " tokens; shorten it or increase the context");
  return tokens;
}

}  // namespace

GenerateSummary generate(Transformer& model, const Tokenizer& tokenizer, std::string_view prompt,
                         const GenerateOptions& options,
                         const std::function<void(const std::string&)>& on_text) {
  const std::int64_t vocab_size = model.config().vocab_size;
  SMOE_CHECK(tokenizer.vocab_size() <= vocab_size, "generate: the tokenizer must have at most the ",
             vocab_size, " tokens of the model; got ", tokenizer.vocab_size());
  check_options(options, tokenizer.vocab_size());
  using Ending = GenerateSummary::Ending;
  const NoGradScope no_grad;
  const std::vector<std::int32_t> read = encode_prompt(tokenizer, prompt, options.context);
  RandomStream random(options.seed, hash_name("generate"));
  TextDecoder decoder(tokenizer);
  StopTexts stop(options.stop_texts);
  // Generated text that begins a document has the prefix of one.
  std::string_view prefix = prompt.empty() ? tokenizer.document_prefix() : "";
  const auto without_prefix = [&prefix](std::string text) {
    if (text.empty() || prefix.empty()) return text;
    if (text.starts_with(prefix)) text.erase(0, prefix.size());
    prefix = "";
    return text;
  };
  Context context(model, options.context);
  GenerateSummary summary{.prompt_tokens = static_cast<std::int64_t>(read.size())};

  const Clock::time_point begin = Clock::now();
  Tensor logits = context.read(read);
  const Clock::time_point first = Clock::now();
  while (summary.tokens < options.max_tokens) {
    const std::int32_t token = sample_token(logits_of_vocabulary(logits, tokenizer.vocab_size()),
                                            options.sampling, random);
    ++summary.tokens;
    if (token == tokenizer.end_of_text()) summary.ending = Ending::end_of_text;
    if (std::count(options.stop_tokens.begin(), options.stop_tokens.end(), token) > 0)
      summary.ending = Ending::stop;
    if (summary.ending != Ending::max_tokens) break;
    on_text(stop.push(without_prefix(decoder.push(token))));
    if (stop.is_reached()) summary.ending = Ending::stop;
    if (stop.is_reached() || summary.tokens == options.max_tokens) break;
    logits = context.read(std::span(&token, 1));
  }
  on_text(stop.push(without_prefix(decoder.finish())));
  on_text(stop.finish());
  summary.prompt_s = seconds_between(begin, first);
  summary.tokens_s = seconds_between(first, Clock::now());
  return summary;
}

}  // namespace smoe
