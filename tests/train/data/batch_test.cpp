#include "train/data/batch.h"

#include <doctest/doctest.h>

#include "tests/support/temporary_folder.h"
#include "train/data/eval_batches.h"
#include "train/data/token_set_writer.h"
#include "train/data/window_sampler.h"

using namespace smoe;

TEST_CASE("a batch holds each sequence and, shifted by one token, its targets") {
  const TemporaryFolder folder;
  const ByteTokenizer tokenizer;
  TokenSetWriter writer(folder / "a.h5", tokenizer);
  writer.begin_document(Split::train);
  writer.append("abcdefghij");
  writer.finish();
  const TokenSet set = TokenSet::open(folder / "a.h5");
  const std::vector<std::int64_t> positions = {4, 0};
  const Batch batch = read_batch(set, Split::train, positions, 3);
  CHECK(batch.token_ids.shape() == Shape{6});
  CHECK(batch.token_ids.to_vector<std::int32_t>() ==
        std::vector<std::int32_t>{'d', 'e', 'f', 256, 'a', 'b'});
  CHECK(batch.targets.to_vector<std::int32_t>() ==
        std::vector<std::int32_t>{'e', 'f', 'g', 'a', 'b', 'c'});
  const std::vector<std::int64_t> last = {7, 8};
  CHECK_THROWS_AS(read_batch(set, Split::train, last, 3), UsageError);
  CHECK(read_batch(set, Split::train, {}, 3).token_ids.numel() == 0);
}

TEST_CASE("every training and validation window of a set can be read") {
  const TemporaryFolder folder;
  const ByteTokenizer tokenizer;
  TokenSetWriter writer(folder / "a.h5", tokenizer);
  for (const Split split : {Split::train, Split::validation}) {
    writer.begin_document(split);
    writer.append(std::string(500, 'x'));
  }
  writer.finish();
  const TokenSet set = TokenSet::open(folder / "a.h5");
  const WindowSampler sampler(1, set.num_tokens(Split::train), 7);
  for (std::int64_t first = 0; first < 400; first += 4)
    CHECK(read_batch(set, Split::train, sampler.positions(first, 4), 7).token_ids.numel() == 28);
  std::int64_t targets = 0;
  for (const EvalBatch& batch : eval_batches(set.num_tokens(Split::validation), 7, 4, 0))
    targets += read_batch(set, Split::validation, batch.positions, batch.length).targets.numel();
  CHECK(targets == 500);
}
