#include "train/data/batch_sampler.h"

#include <doctest/doctest.h>

#include <map>
#include <set>

#include "tests/train/data/three_sets.h"

using namespace smoe;
using namespace smoe::test;

TEST_CASE("steps blend the sets by weight, each reshuffled in each of its epochs") {
  const ThreeSets three;
  const TrainingData data = TrainingData::open(three.config);
  CHECK(data.summary() == "3 sets: web 55.6%, code 33.3%, few 11.1%");
  const std::int64_t seq_len = 16, global_batch = 9;
  const BatchSampler sampler(data, 7, seq_len, global_batch);
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
    const double due = three.config.sources[s].weight / 9 * 400 * 9;
    CHECK(std::abs(static_cast<double>(positions.size()) - due) < 1);
    // Each of the set's epochs visits every window once.
    const std::string& name = data.sets()[s].name;
    const WindowSampler windows_of(7, set.num_tokens(Split::train), seq_len, name);
    CHECK(positions == windows_of.positions(0, static_cast<std::int64_t>(positions.size())));
    const auto windows = static_cast<std::size_t>(windows_of.num_windows());
    REQUIRE(positions.size() > 2 * windows);
    const std::set<std::int64_t> first(positions.begin(), positions.begin() + windows);
    CHECK(first.size() == windows);
  }
  // Another sampler, as in a resumed run, gives the same steps in any order.
  const BatchSampler again(data, 7, seq_len, global_batch);
  for (const std::int64_t step : {399, 0, 57, 58, 3}) {
    std::vector<std::pair<const TokenSet*, std::int64_t>> batch;
    for (const auto& [set, position] : again.batch(step)) batch.emplace_back(set, position);
    CHECK(batch == steps[static_cast<std::size_t>(step)]);
  }
}

TEST_CASE("after a change of blend or batch size each set continues after its samples") {
  const ThreeSets three;
  const TrainingData data = TrainingData::open(three.config);
  DataConfig heavier = three.config;
  heavier.sources[2].weight = 5;
  const TrainingData changed = TrainingData::open(heavier);
  const std::int64_t seq_len = 16;
  const BatchSampler before(data, 7, seq_len, 9);
  BatchSampler after(changed, 7, seq_len, 4);
  std::vector<std::vector<std::int64_t>> seen(3);
  const auto add = [&](const TrainingData& sets, const std::vector<SequenceRef>& batch) {
    for (const auto& [set, position] : batch)
      for (std::size_t s = 0; s < 3; ++s)
        if (set == &sets.sets()[s].set) seen[s].push_back(position);
  };
  for (std::int64_t step = 0; step < 11; ++step) add(data, before.batch(step));
  after.start_at({11, BlendSchedule(data.weights()).counts_before(11 * 9)});
  for (std::int64_t step = 11; step < 60; ++step) add(changed, after.batch(step));
  CHECK(seen[2].size() > 11 + 60);  // 5/13 of the samples instead of 1/9
  for (std::size_t s = 0; s < 3; ++s) {
    const WindowSampler windows_of(7, data.sets()[s].set.num_tokens(Split::train), seq_len,
                                   data.sets()[s].name);
    CHECK(seen[s] == windows_of.positions(0, static_cast<std::int64_t>(seen[s].size())));
  }
  CHECK_THROWS_AS(after.start_at({0, {1}}), UsageError);
}

TEST_CASE("a blended batch reads each sequence from its set") {
  const ThreeSets three;
  const TrainingData data = TrainingData::open(three.config);
  const std::vector<SequenceRef> sequences = {{&data.sets()[1].set, 1}, {&data.sets()[0].set, 1}};
  const Batch batch = read_batch(sequences, Split::train, 2);
  CHECK(batch.token_ids.to_vector<std::int32_t>() == std::vector<std::int32_t>{'c', '0', 'w', '0'});
  CHECK(batch.targets.to_vector<std::int32_t>() == std::vector<std::int32_t>{'0', ' ', '0', ' '});
}

TEST_CASE("a single set is read in the order of its windows") {
  const ThreeSets three;
  const TrainingData data = TrainingData::open({three.folder / "web.h5", {}, ""});
  const BatchSampler sampler(data, 7, 16, 9);
  const WindowSampler windows(7, data.num_tokens(Split::train), 16);
  std::vector<std::int64_t> positions;
  for (const auto& [set, position] : sampler.batch(31)) positions.push_back(position);
  CHECK(positions == windows.positions(31 * 9, 9));
  CHECK(data.digest() == data.sets()[0].set.digest());
  CHECK(data.summary() == three.folder / "web.h5");
}
