#include "train/data/training_data.h"

#include <doctest/doctest.h>

#include "tests/train/data/three_sets.h"
#include "tests/train/tokenizer/small_model.h"
#include "train/data/batch_sampler.h"
#include "train/data/validation_sets.h"
#include "train/tokenizer/sentencepiece_tokenizer.h"

using namespace smoe;
using namespace smoe::test;

TEST_CASE("the digest covers every set's contents and name") {
  const ThreeSets three;
  const Digest digest = TrainingData::open(three.config).digest();
  DataConfig other = three.config;
  other.sources[1].name = "cod";
  CHECK(TrainingData::open(other).digest() != digest);
  other = three.config;
  other.sources[1].weight = 4;
  CHECK(TrainingData::open(other).digest() == digest);
  write_text_set(three.folder / "few.h5", words(30, "f"), "now with validation");
  CHECK(TrainingData::open(three.config).digest() != digest);
}

TEST_CASE("sets with different tokenizers, missing and short sets are refused by name") {
  const ThreeSets three;
  const auto message = [&](const DataConfig& config) {
    return message_of([&] {
      const TrainingData data = TrainingData::open(config);
      BatchSampler(data, 1, 300, 1);
    });
  };
  CHECK(message(three.config) ==
        "training data: seq_len must be below the 111 training tokens of " +
            (three.folder / "few.h5") + "; got 300");
  DataConfig other = three.config;
  other.sources[1].path = three.folder / "pieces.h5";
  CHECK(message(other).starts_with("data.sources.code.path: there is no "));
  const SentencePieceTokenizer pieces(test::small_model(), "small.model");
  write_text_set(three.folder / "pieces.h5", test::small_text(), "", pieces);
  CHECK(message(other) ==
        three.folder / "pieces.h5" + ": must be made with the tokenizer of " +
            (three.folder / "web.h5") +
            "; got SentencePiece, vocabulary 400; prepare its text again with the same tokenizer");
}

TEST_CASE("a set is opened for a model only if its ids are the model's") {
  const ThreeSets three;
  const std::string web = three.folder / "web.h5", wide = three.folder / "wide.h5";
  write_text_set(wide, test::small_text(), test::small_text(),
                 SentencePieceTokenizer(test::small_model(), "small.model"));
  const TokenSpace space = TrainingData::open(three.config).token_space();
  DataConfig config = three.config;
  config.validation = wide;
  CHECK(message_of([&] { open_validation_sets(config, space); }) ==
        wide + ": must be made with the tokenizer of " + web +
            "; got SentencePiece, vocabulary 400; prepare its text again with the same tokenizer");
  // A model without a tokenizer has only the size of its vocabulary.
  CHECK(open_token_set("--data", web, {.vocab_size = 257, .owner = "runs/r"}).vocab_size() == 257);
  CHECK(message_of([&] {
          open_token_set("--data", wide, {.vocab_size = 257, .owner = "runs/r"});
        }) == wide + ": its vocabulary of 400 tokens must fit that of runs/r, which has 257");
}

TEST_CASE("a run is validated on its training sets with validation text, or on data.validation") {
  const ThreeSets three;
  const TokenSpace space = TrainingData::open(three.config).token_space();
  const std::vector<ValidationSet> sets = open_validation_sets(three.config, space);
  REQUIRE(sets.size() == 2);
  CHECK(sets[0].name == "web");
  CHECK(sets[1].name == "code");
  DataConfig other = three.config;
  other.validation = three.folder / "code.h5";
  REQUIRE(open_validation_sets(other, space).size() == 1);
  CHECK(open_validation_sets(other, space)[0].name.empty());
  CHECK(open_validation_sets({three.folder / "few.h5", {}, ""}, space).empty());
}
