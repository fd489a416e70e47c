#include "train/evaluate.h"

#include <doctest/doctest.h>

#include <cmath>
#include <cstring>
#include <numbers>

#include "autograd/parameter_store.h"
#include "tests/train/small_run.h"
#include "tests/train/tokenizer/small_model.h"
#include "train/tokenizer/sentencepiece_tokenizer.h"

using namespace smoe;
using namespace smoe::test;

namespace {

struct Setting : SmallRun {
  Transformer model{config.model};
  ParameterStore store{model.parameters(), {DType::f64, DType::f64, 1}};
  TokenSet set = TokenSet::open(config.data.path);
};

// Sum of -log p(token) over the split, from logits of one window after the other.
double nats_by_logits(Setting& s, std::int64_t seq_len) {
  const std::int64_t num_tokens = s.set.num_tokens(Split::validation);
  std::vector<std::int32_t> tokens(num_tokens);
  s.set.read(Split::validation, 0, num_tokens, tokens.data());
  double nats = 0;
  for (std::int64_t begin = 0; begin + 1 < num_tokens; begin += seq_len) {
    const std::int64_t count = std::min(seq_len, num_tokens - 1 - begin);
    const std::vector<std::int32_t> window(tokens.begin() + begin, tokens.begin() + begin + count);
    const auto logits =
        s.model.logits(Tensor::from(window, {count}), {.batch = 1, .seq_len = count})
            .data()
            .to_vector<double>();
    const std::int64_t vocab = s.config.model.vocab_size;
    for (std::int64_t i = 0; i < count; ++i) {
      double sum = 0;
      for (std::int64_t v = 0; v < vocab; ++v) sum += std::exp(logits[i * vocab + v]);
      nats += std::log(sum) - logits[i * vocab + tokens[begin + i + 1]];
    }
  }
  return nats;
}

}  // namespace

TEST_CASE("every token but the first is predicted once, whatever the batch") {
  Setting s;
  const double wanted = nats_by_logits(s, 17);
  for (const std::int64_t micro_batch : {1, 3, 1000}) {
    std::int64_t last_done = 0;
    const Evaluation e =
        evaluate(s.model, s.set, {17, micro_batch, 0}, [&](std::int64_t done, std::int64_t total) {
          CHECK(done > last_done);
          last_done = done;
          CHECK(total == s.set.num_tokens(Split::validation) - 1);
        });
    CHECK(e.tokens == s.set.num_tokens(Split::validation) - 1);
    CHECK(last_done == e.tokens);
    CHECK(e.bytes == static_cast<double>(s.set.num_bytes(Split::validation)));
    CHECK(e.nats == doctest::Approx(wanted).epsilon(1e-12));
    CHECK(e.loss() == e.nats / static_cast<double>(e.tokens));
    CHECK(e.perplexity() == std::exp(e.loss()));
    CHECK(e.bits_per_byte() == doctest::Approx(wanted / std::numbers::ln2 / e.bytes));
  }
}

TEST_CASE("the bytes of a part of the split are those of the tokens that are predicted") {
  const TemporaryFolder folder;
  const SentencePieceTokenizer pieces(test::small_model(), "small.model");
  TokenSetWriter writer(folder / "a.h5", pieces);
  writer.begin_document(Split::train);
  writer.append("text");
  writer.begin_document(Split::validation);
  writer.append(std::string(40, '#'));               // one byte per token,
  writer.append(test::small_text().substr(0, 400));  // then several
  writer.finish();
  const TokenSet set = TokenSet::open(folder / "a.h5");
  Config config = small_config(folder.path());
  config.model.vocab_size = pieces.vocab_size();
  Transformer model(config.model);
  const ParameterStore store(model.parameters(), {DType::f64, DType::f64, 1});
  const Evaluation first = evaluate(model, set, {10, 1, 1});
  CHECK(first.tokens == 10);
  CHECK(first.bytes == 10);
  const Evaluation all = evaluate(model, set, {10, 1, 0});
  CHECK(all.bytes == 440);
  CHECK(all.bytes > 1.5 * static_cast<double>(all.tokens));
}

TEST_CASE("bits per byte count the same text's bytes, whatever its tokens") {
  // A model that knows nothing predicts each of V tokens with probability 1/V: log2(V) bits a
  // token.
  const std::string text = "between the layers\nHello\xFF world";
  const TemporaryFolder folder;
  const ByteTokenizer bytes;
  const SentencePieceTokenizer pieces(test::small_model(), "small.model");
  for (const Tokenizer* tokenizer :
       {static_cast<const Tokenizer*>(&bytes), static_cast<const Tokenizer*>(&pieces)}) {
    TokenSetWriter writer(folder / "a.h5", *tokenizer);
    for (const Split split : {Split::train, Split::validation}) {
      writer.begin_document(split);
      writer.append(text);
    }
    writer.finish();
    const TokenSet set = TokenSet::open(folder / "a.h5");
    Config config = small_config(folder.path());
    config.model.vocab_size = tokenizer->vocab_size();
    Transformer model(config.model);
    const ParameterStore store(model.parameters(), {DType::f64, DType::f64, 1});
    for (const Parameter* parameter : store.parameters())
      std::memset(parameter->value().data(), 0, parameter->value().bytes());
    std::vector<std::int32_t> tokens;
    tokenizer->encode(text, tokens);
    const double bits = static_cast<double>(tokens.size()) * std::log2(tokenizer->vocab_size());
    const Evaluation e = evaluate(model, set, {7, 2, 0});
    CHECK(e.tokens == static_cast<std::int64_t>(tokens.size()));
    CHECK(e.bytes == doctest::Approx(static_cast<double>(text.size())));
    CHECK(e.bits_per_byte() ==
          doctest::Approx(bits / static_cast<double>(text.size())).epsilon(1e-12));
  }
  // The bytes of the sum above, by hand.
  CHECK(text.size() == 31);
}
