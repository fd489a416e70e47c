#include "train/generate.h"

#include <doctest/doctest.h>

#include "autograd/parameter_store.h"
#include "tests/train/small_run.h"
#include "tests/train/temporary_folder.h"
#include "train/load_model.h"
#include "train/run.h"

using namespace smoe;
using namespace smoe::test;

namespace {

// A model with random weights: what it writes is noise, but always the same noise.
struct RandomModel {
  Transformer model{small_config("").model};
  ParameterStore store{model.parameters(), {DType::f32, DType::f32, 1}};
  ByteTokenizer tokenizer;

  std::string text(const std::string& prompt, const GenerateOptions& options) {
    std::string out;
    generate(model, tokenizer, prompt, options, [&](const std::string& piece) { out += piece; });
    return out;
  }
};

GenerateOptions options_of(std::uint64_t seed, double temperature, std::int64_t tokens = 40) {
  return {.max_tokens = tokens,
          .max_context = 16,
          .seed = seed,
          .sampling = {.temperature = temperature}};
}

}  // namespace

TEST_CASE("the seed decides the text, and without temperature it does not matter") {
  RandomModel random;
  CHECK(random.text("ab", options_of(1, 1)) == random.text("ab", options_of(1, 1)));
  CHECK(random.text("ab", options_of(1, 1)) != random.text("ab", options_of(2, 1)));
  CHECK(random.text("ab", options_of(1, 0)) == random.text("ab", options_of(2, 0)));
  CHECK(random.text("", options_of(1, 0, 0)).empty());
}

TEST_CASE("a longer text begins like a shorter one while the context reaches back to its start") {
  RandomModel random;
  const std::string longer = random.text("ab", options_of(3, 0, 12));
  const std::string shorter = random.text("ab", options_of(3, 0, 5));
  CHECK(longer.substr(0, shorter.size()) == shorter);
}

TEST_CASE("only what the context holds decides the next token") {
  RandomModel random;
  const std::string tail = "0123456789abcdefghij";
  CHECK(random.text("one beginning " + tail, options_of(1, 0)) ==
        random.text("another " + tail, options_of(1, 0)));
}

TEST_CASE("a trained model writes the words it was trained on") {
  const TemporaryFolder folder;
  Config config = small_config(folder.path());
  config.train.steps = 150;
  config.train.seq_len = 32;
  config.train.micro_batch = config.train.global_batch = 8;
  config.log.every = 50;
  write_small_token_set(config.data.path);
  REQUIRE(Run(config).train() == 0);
  const LoadedModel loaded = load_model(config.run.folder());
  std::string text;
  generate(*loaded.model, *loaded.tokenizer, "ba", options_of(1, 0.2, 200),
           [&](const std::string& piece) { text += piece; });
  int letters = 0;
  for (const char c : text)
    letters += std::string("badokilumonerasi .\n").find(c) != std::string::npos;
  CAPTURE(text);
  CHECK(letters >= 0.95 * static_cast<double>(text.size()));
  CHECK(text.find(' ') != std::string::npos);
}
