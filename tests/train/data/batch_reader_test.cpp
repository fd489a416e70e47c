#include "train/data/batch_reader.h"

#include <doctest/doctest.h>

#include <atomic>
#include <thread>

#include "tests/support/temporary_folder.h"
#include "train/data/token_set_writer.h"

using namespace smoe;

namespace {

// Several blocks, so that reads verify blocks at different times.
std::string counting_set(const std::string& path) {
  const ByteTokenizer tokenizer;
  TokenSetWriter writer(path, tokenizer);
  writer.begin_document(Split::train);
  std::string text(3 << 20, '\0');
  for (std::size_t i = 0; i < text.size(); ++i) text[i] = static_cast<char>(i * i % 251);
  writer.append(text);
  writer.finish();
  return path;
}

}  // namespace

TEST_CASE("batches are the same whether they were announced or not") {
  const TemporaryFolder folder;
  const TokenSet set = TokenSet::open(counting_set(folder / "a.h5"));
  const auto batch_of = [&](std::int64_t i) {
    return std::vector<SequenceRef>{{&set, i * 700001 % 3000000}, {&set, i * 13}};
  };
  BatchReader reader(Split::train, 100);
  const auto check = [&](std::int64_t i, std::vector<SequenceRef> next) {
    const Batch got = reader.read(batch_of(i), std::move(next));
    const Batch wanted = read_batch(batch_of(i), Split::train, 100);
    CHECK(got.num_sequences == 2);
    CHECK(got.seq_len == 100);
    CHECK(got.token_ids.to_vector<std::int32_t>() == wanted.token_ids.to_vector<std::int32_t>());
    CHECK(got.targets.to_vector<std::int32_t>() == wanted.targets.to_vector<std::int32_t>());
  };
  for (std::int64_t i = 0; i < 20; ++i) check(i, batch_of(i + 1));
  check(3, batch_of(9));  // another one than announced, as after data were skipped
  check(9, {});
  check(10, {});
}

TEST_CASE("a failed read ahead throws when its batch is asked for, and only then") {
  const TemporaryFolder folder;
  const TokenSet set = TokenSet::open(counting_set(folder / "a.h5"));
  const std::vector<SequenceRef> good{{&set, 5}}, bad{{&set, set.num_tokens(Split::train)}};
  BatchReader reader(Split::train, 100);
  reader.read(good, bad);
  CHECK_THROWS_AS(reader.read(bad, {}), UsageError);
  reader.read(good, bad);
  CHECK_NOTHROW(reader.read(good, {}));
}

TEST_CASE("threads can read one token set at the same time") {
  const TemporaryFolder folder;
  const TokenSet set = TokenSet::open(counting_set(folder / "a.h5"));
  std::atomic<int> num_wrong = 0;
  const auto read_all = [&](std::int64_t first) {
    std::vector<std::int32_t> tokens(1000);
    for (std::int64_t at = first; at + 1000 < set.num_tokens(Split::train); at += 99991) {
      set.read(Split::train, at, 1000, tokens.data());
      for (std::int64_t i = 0; i < 1000; ++i) {
        const std::int64_t byte = at + i - 1;  // after the end-of-text token
        num_wrong += byte >= 0 && tokens[i] != byte * byte % 251;
      }
    }
  };
  {
    const std::jthread one(read_all, 0), two(read_all, 50000);
    read_all(1);
  }
  CHECK(num_wrong == 0);
}
