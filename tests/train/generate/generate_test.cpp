#include "train/generate/generate.h"

#include <doctest/doctest.h>

#include <algorithm>

#include "autograd/parameter_store.h"
#include "tests/train/small_run.h"
#include "train/load_model.h"
#include "train/open_run.h"

using namespace smoe;
using namespace smoe::test;

namespace {

// A model with random weights, which generates deterministic noise.
struct RandomModel {
  Transformer model{small_config("").model};
  ParameterStore store{model.parameters(), {DType::f32, DType::f32, 1}};
  ByteTokenizer tokenizer;

  GenerateSummary summary;

  std::string text(const std::string& prompt, const GenerateOptions& options) {
    std::string out;
    summary = generate(model, tokenizer, prompt, options,
                       [&](const std::string& piece) { out += piece; });
    return out;
  }

  // The sampled tokens, from logits computed without a cache but with the same handling of a full
  // context.
  std::vector<std::int32_t> recomputed(const std::string& prompt, const GenerateOptions& options) {
    RandomStream stream(options.seed, hash_name("generate"));
    std::vector<std::int32_t> held{tokenizer.end_of_text()}, drawn;
    tokenizer.encode(prompt, held);
    while (std::ssize(drawn) < options.max_tokens) {
      const std::int64_t count = std::ssize(held);
      const auto logits = model.logits(Tensor::from(held, {count}), {.batch = 1, .seq_len = count})
                              .data()
                              .rows(count - 1, count)
                              .to_vector<float>();
      drawn.push_back(sample_token(std::vector<double>(logits.begin(), logits.end()),
                                   options.sampling, stream));
      if (drawn.back() == tokenizer.end_of_text()) break;
      held.push_back(drawn.back());
      if (std::ssize(held) > options.context)
        held.erase(held.begin(), held.end() - std::max<std::int64_t>(options.context / 2, 1));
    }
    return drawn;
  }

  std::string text_of(const std::vector<std::int32_t>& tokens) {
    TextDecoder decoder(tokenizer);
    std::string out;
    for (const std::int32_t token : tokens) out += decoder.push(token);
    return out + decoder.finish();
  }
};

GenerateOptions options_of(std::uint64_t seed, double temperature, std::int64_t tokens = 40) {
  return {
      .max_tokens = tokens, .context = 16, .seed = seed, .sampling = {.temperature = temperature}};
}

}  // namespace

TEST_CASE("the seed determines the text, except at temperature 0") {
  RandomModel random;
  CHECK(random.text("ab", options_of(1, 1)) == random.text("ab", options_of(1, 1)));
  CHECK(random.text("ab", options_of(1, 1)) != random.text("ab", options_of(2, 1)));
  CHECK(random.text("ab", options_of(1, 0)) == random.text("ab", options_of(2, 0)));
  CHECK(random.text("", options_of(1, 0, 0)).empty());
}

TEST_CASE("the text is that of recomputing every token from its context") {
  RandomModel random;
  for (const std::int64_t context : {1, 2, 16, 41, 300})
    for (const double temperature : {0.0, 1.0}) {
      CAPTURE(context);
      CAPTURE(temperature);
      GenerateOptions options = options_of(1, temperature, 200);
      options.context = context;
      const std::string prompt = context > 2 ? "ab" : "";
      CHECK(random.text(prompt, options) == random.text_of(random.recomputed(prompt, options)));
    }
}

TEST_CASE("text ends at a stop text or token, neither of which is written") {
  RandomModel random;
  const std::string whole = random.text("ab", options_of(6, 1, 60));
  GenerateOptions options = options_of(6, 1, 60);
  options.stop_texts = {"never in it, being too long", whole.substr(12, 3)};
  CHECK(random.text("ab", options) == whole.substr(0, whole.find(options.stop_texts[1])));
  CHECK(random.summary.ending == GenerateSummary::Ending::stop);
  CHECK(random.summary.tokens < 60);

  const std::vector<std::int32_t> drawn = random.recomputed("ab", options_of(6, 1, 60));
  options.stop_texts = {};
  options.stop_tokens = {drawn[9]};
  random.text("ab", options);
  CHECK(random.summary.tokens ==
        1 + std::find(drawn.begin(), drawn.end(), drawn[9]) - drawn.begin());
  CHECK(random.summary.ending == GenerateSummary::Ending::stop);
  CHECK(random.summary.prompt_tokens == 3);
}

TEST_CASE("options out of range and a prompt that does not fit are refused") {
  RandomModel random;
  CHECK_THROWS_WITH_AS(random.text("0123456789abcdef", options_of(1, 0)),
                       "generate: prompt must fit the context of 16 tokens, one of which begins "
                       "the document; got 16 tokens; shorten it or increase the context",
                       UsageError);
  CHECK(random.text("0123456789abcde", options_of(1, 0, 1)).size() > 0);
  GenerateOptions options = options_of(1, 0);
  options.stop_tokens = {257};
  CHECK_THROWS_WITH_AS(random.text("", options),
                       "generate: stop_token must be from 0 to 256; got 257", UsageError);
  options = options_of(1, 0, -1);
  CHECK_THROWS_WITH_AS(random.text("", options), "generate: max_tokens must be 0 or more; got -1",
                       UsageError);
  for (const std::int64_t context : {std::int64_t{0}, std::int64_t{1} << 31,
                                     (std::int64_t{1} << 55) + 1, std::int64_t{1} << 57}) {
    options = options_of(1, 0);
    options.context = context;
    CHECK(message_of([&] { random.text("", options); }) ==
          concat("generate: context must be 1 to 2147483647 tokens; got ", context));
  }
}

TEST_CASE("a longer text begins with the shorter one while both fit the context") {
  RandomModel random;
  const std::string longer = random.text("ab", options_of(3, 0, 12));
  const std::string shorter = random.text("ab", options_of(3, 0, 5));
  CHECK(longer.substr(0, shorter.size()) == shorter);
}

TEST_CASE("a trained model writes the words it was trained on") {
  SmallRun small;
  Config& config = small.config;
  config.train.steps = 150;
  config.train.seq_len = 32;
  config.train.micro_batch = config.train.global_batch = 8;
  config.log.every = 50;
  REQUIRE(open_run(config)->train() == 0);
  const LoadedModel loaded = load_model(config.run.folder());
  std::string text;
  generate(loaded.model(), *loaded.tokenizer, "ba", options_of(1, 0.2, 200),
           [&](const std::string& piece) { text += piece; });
  int letters = 0;
  for (const char c : text)
    letters += std::string("badokilumonerasi .\n").find(c) != std::string::npos;
  CAPTURE(text);
  CHECK(letters >= 0.95 * static_cast<double>(text.size()));
  CHECK(text.find(' ') != std::string::npos);
}
