#include "train/data/training_data.h"

#include <doctest/doctest.h>

#include <map>
#include <set>

#include "tests/support/temporary_folder.h"
#include "tests/train/data/small_model.h"
#include "train/data/sentencepiece_tokenizer.h"
#include "train/data/token_set_writer.h"
#include "train/data/validation_sets.h"

using namespace smoe;

namespace {

std::string words(int count, const std::string& word) {
  std::string text;
  for (int i = 0; i < count; ++i) text += word + std::to_string(i) + " ";
  return text;
}

void write_set(const std::string& path, const std::string& train, const std::string& validation,
               const Tokenizer& tokenizer = ByteTokenizer()) {
  TokenSetWriter writer(path, tokenizer);
  writer.begin_document(Split::train);
  writer.append(train);
  if (!validation.empty()) writer.begin_document(Split::validation);
  writer.append(validation);
  writer.finish();
}

struct Setting {
  TemporaryFolder folder;
  DataConfig config{"",
                    {{"web", folder / "web.h5", 5},
                     {"code", folder / "code.h5", 3},
                     {"few", folder / "few.h5", 1}},
                    ""};
  Setting() {
    write_set(folder / "web.h5", words(2000, "w"), "web text");
    write_set(folder / "code.h5", words(700, "c"), "code text");
    write_set(folder / "few.h5", words(30, "f"), "");
  }
};

}  // namespace

TEST_CASE("a blend's steps mix the sets by weight, each reshuffled in each of its epochs") {
  const Setting setting;
  const TrainingData data = TrainingData::open(setting.config);
  CHECK(data.summary() == "3 sets: web 55.6%, code 33.3%, few 11.1%");
  const std::int64_t seq_len = 16, global_batch = 9;
  const TrainingSampler sampler(data, 7, seq_len, global_batch);
  std::map<const TokenSet*, std::vector<std::int64_t>> seen;
  std::vector<std::vector<std::pair<const TokenSet*, std::int64_t>>> steps;
  for (std::int64_t step = 0; step < 400; ++step) {
    steps.emplace_back();
    for (const auto& [set, position] : sampler.batch(step)) {
      seen[set].push_back(position);
      steps.back().emplace_back(set, position);
    }
  }
  for (std::size_t s = 0; s < 3; ++s) {
    const TokenSet& set = data.sets()[s].set;
    const std::vector<std::int64_t>& positions = seen[&set];
    const double due = setting.config.sources[s].weight / 9 * 400 * 9;
    CHECK(std::abs(static_cast<double>(positions.size()) - due) < 1);
    // Epochs of the set's own: each visits every window once.
    const std::string& name = data.sets()[s].name;
    const Sampler alone(7, set.num_tokens(Split::train), seq_len, global_batch, name);
    CHECK(positions == alone.positions(0, static_cast<std::int64_t>(positions.size())));
    const auto windows = static_cast<std::size_t>(alone.num_windows());
    REQUIRE(positions.size() > 2 * windows);
    const std::set<std::int64_t> first(positions.begin(), positions.begin() + windows);
    CHECK(first.size() == windows);
  }
  // Any step again, by another sampler: what a resumed run sees.
  const TrainingSampler again(data, 7, seq_len, global_batch);
  for (const std::int64_t step : {399, 0, 57, 58, 3}) {
    std::vector<std::pair<const TokenSet*, std::int64_t>> batch;
    for (const auto& [set, position] : again.batch(step)) batch.emplace_back(set, position);
    CHECK(batch == steps[static_cast<std::size_t>(step)]);
  }
}

TEST_CASE("a blended batch holds each sequence of its own set") {
  const Setting setting;
  const TrainingData data = TrainingData::open(setting.config);
  const std::vector<Sequence> sequences = {{&data.sets()[1].set, 1}, {&data.sets()[0].set, 1}};
  const Batch batch = read_batch(sequences, Split::train, 2);
  CHECK(batch.token_ids.to_vector<std::int32_t>() == std::vector<std::int32_t>{'c', '0', 'w', '0'});
  CHECK(batch.targets.to_vector<std::int32_t>() == std::vector<std::int32_t>{'0', ' ', '0', ' '});
}

TEST_CASE("one set alone is trained on in the order it always was") {
  const Setting setting;
  const TrainingData data = TrainingData::open({setting.folder / "web.h5", {}, ""});
  const TrainingSampler sampler(data, 7, 16, 9);
  const Sampler alone(7, data.num_tokens(Split::train), 16, 9);
  std::vector<std::int64_t> positions;
  for (const auto& [set, position] : sampler.batch(31)) positions.push_back(position);
  CHECK(positions == alone.batch(31));
  CHECK(data.digest() == data.sets()[0].set.digest());
  CHECK(data.summary() == setting.folder / "web.h5");
}

TEST_CASE("the digest follows every set's content and name") {
  const Setting setting;
  const Digest digest = TrainingData::open(setting.config).digest();
  DataConfig other = setting.config;
  other.sources[1].name = "cod";
  CHECK(TrainingData::open(other).digest() != digest);
  other = setting.config;
  other.sources[1].weight = 4;
  CHECK(TrainingData::open(other).digest() == digest);
  write_set(setting.folder / "few.h5", words(30, "f"), "now with validation");
  CHECK(TrainingData::open(setting.config).digest() != digest);
}

TEST_CASE("sets of different tokenizers, missing and short ones are refused by name") {
  const Setting setting;
  const auto message = [&](const DataConfig& config) {
    return message_of([&] {
      const TrainingData data = TrainingData::open(config);
      TrainingSampler(data, 1, 300, 1);
    });
  };
  CHECK(message(setting.config) == "train.seq_len: must be below the 111 training tokens of " +
                                       (setting.folder / "few.h5") + "; got 300");
  DataConfig other = setting.config;
  other.sources[1].path = setting.folder / "pieces.h5";
  CHECK(message(other).starts_with("data.sources.code.path: there is no "));
  const SentencePieceTokenizer pieces(test::small_model(), "small.model");
  write_set(setting.folder / "pieces.h5", test::small_text(), "", pieces);
  CHECK(message(other) ==
        setting.folder / "pieces.h5" + ": must be made with the tokenizer of " +
            (setting.folder / "web.h5") +
            ": bytes, vocabulary 257; got SentencePiece, vocabulary 400; give the one to `smoe "
            "prepare --tokenizer` for the other");
}

TEST_CASE("a run is validated on the sets it trains on that have validation text, or on its own") {
  const Setting setting;
  const std::vector<ValidationSet> sets = open_validation_sets(setting.config);
  REQUIRE(sets.size() == 2);
  CHECK(sets[0].name == "web");
  CHECK(sets[1].name == "code");
  DataConfig other = setting.config;
  other.validation = setting.folder / "code.h5";
  REQUIRE(open_validation_sets(other).size() == 1);
  CHECK(open_validation_sets(other)[0].name.empty());
  CHECK(open_validation_sets({setting.folder / "few.h5", {}, ""}).empty());
}
