#include "layers/kv_cache.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>

#include "autograd/parameter_store.h"
#include "autograd/tape.h"
#include "layers/transformer.h"
#include "tests/support/model_cases.h"
#include "tests/support/tensors.h"

using namespace smoe;
using namespace smoe::test;

namespace {

ModelConfig config() {
  ModelConfig c = small_model_config();
  c.num_shared_experts = 1;
  c.init_std = 0.5;  // logits far apart, as in a trained model
  return c;
}

struct Model {
  explicit Model(DType dtype, std::uint64_t seed = 3, const ModelConfig& c = config())
      : model(c), store(model.parameters(), {accumulation_dtype(dtype), dtype, seed}) {}
  Transformer model;
  ParameterStore store;
};

using Tokens = std::vector<std::int32_t>;

Tokens random_tokens(std::int64_t count) {
  return random_ids("tokens", count, config().vocab_size);
}

// Logits of the last token, computed without a cache.
std::vector<double> logits_without_cache(Transformer& model, const Tokens& tokens) {
  const auto count = static_cast<std::int64_t>(tokens.size());
  const Tensor all = model.logits(ids_tensor(tokens), {.batch = 1, .seq_len = count}).data();
  return values_of(all.rows(count - 1, count));
}

std::int32_t likeliest(const std::vector<double>& logits) {
  return static_cast<std::int32_t>(std::max_element(logits.begin(), logits.end()) - logits.begin());
}

double largest_difference(const std::vector<double>& a, const std::vector<double>& b) {
  REQUIRE(a.size() == b.size());
  double most = 0;
  for (std::size_t i = 0; i < a.size(); ++i) most = std::max(most, std::abs(a[i] - b[i]));
  return most;
}

}  // namespace

TEST_CASE("greedy tokens with the cache match those without") {
  for (const DType dtype : {DType::f32, DType::f64, DType::bf16})
    for (const std::uint64_t seed : {1, 2, 3}) {
      const std::string name = name_of(dtype);
      CAPTURE(name);
      CAPTURE(seed);
      Model m(dtype, seed);
      KeyValueCache cache = m.model.new_cache(1, 300);
      Tokens tokens = random_tokens(5);
      std::vector<double> logits = values_of(m.model.next_logits(ids_tensor(tokens), cache));
      while (tokens.size() < 290) {
        const std::vector<double> wanted = logits_without_cache(m.model, tokens);
        // The logits have size 1 to 3.
        CHECK(largest_difference(logits, wanted) <= (dtype == DType::f64   ? 1e-13
                                                     : dtype == DType::f32 ? 2e-5
                                                                           : 0.1));
        REQUIRE(likeliest(logits) == likeliest(wanted));
        tokens.push_back(likeliest(logits));
        logits = values_of(m.model.next_logits(ids_tensor({tokens.back()}), cache));
      }
      CHECK(cache.length() == 290);
    }
}

TEST_CASE("a mixture of attention's logits with the cache match those without") {
  ModelConfig c = config();
  c.attention = small_attention_mixture();
  for (const DType dtype : {DType::f32, DType::f64}) {
    Model m(dtype, 5, c);
    KeyValueCache cache = m.model.new_cache(1, 40);
    Tokens tokens = random_tokens(5);
    std::vector<double> logits = values_of(m.model.next_logits(ids_tensor(tokens), cache));
    while (tokens.size() < 40) {
      const std::vector<double> wanted = logits_without_cache(m.model, tokens);
      CHECK(largest_difference(logits, wanted) <= (dtype == DType::f64 ? 1e-13 : 2e-5));
      tokens.push_back(likeliest(wanted));
      logits = values_of(m.model.next_logits(ids_tensor({tokens.back()}), cache));
    }
  }
}

TEST_CASE("logits do not depend on how a prompt is split") {
  Model m(DType::f64);
  const Tokens tokens = random_tokens(280);
  const std::vector<double> wanted = logits_without_cache(m.model, tokens);
  for (const std::size_t piece : {1, 7, 64, 255, 256, 257, 280}) {
    CAPTURE(piece);
    KeyValueCache cache = m.model.new_cache(1, 280);
    Tensor logits;
    for (std::size_t at = 0; at < tokens.size(); at += piece) {
      const auto end = tokens.begin() + std::min(at + piece, tokens.size());
      logits = m.model.next_logits(ids_tensor(Tokens(tokens.begin() + at, end)), cache);
    }
    CHECK(largest_difference(values_of(logits), wanted) <= 1e-13);
  }
}

TEST_CASE("a batch of sequences matches each sequence by itself") {
  Model m(DType::f64);
  constexpr std::int64_t kBatch = 3, kPrompt = 9, kTokens = 14;
  const Tokens all = random_tokens(kBatch * kTokens);
  const auto rows = [&](std::int64_t begin, std::int64_t end) {
    Tokens part;
    for (std::int64_t b = 0; b < kBatch; ++b)
      part.insert(part.end(), all.begin() + b * kTokens + begin, all.begin() + b * kTokens + end);
    return ids_tensor(part);
  };
  KeyValueCache cache = m.model.new_cache(kBatch, kTokens);
  Tensor logits = m.model.next_logits(rows(0, kPrompt), cache);
  for (std::int64_t i = kPrompt; i < kTokens; ++i)
    logits = m.model.next_logits(rows(i, i + 1), cache);
  REQUIRE(logits.shape() == Shape{kBatch, config().vocab_size});
  for (std::int64_t b = 0; b < kBatch; ++b) {
    const Tokens single(all.begin() + b * kTokens, all.begin() + (b + 1) * kTokens);
    CHECK(largest_difference(values_of(logits.rows(b, b + 1)),
                             logits_without_cache(m.model, single)) <= 1e-13);
  }
}

TEST_CASE("a cleared cache starts at position 0") {
  Model m(DType::f64);
  const Tokens tokens = random_tokens(6);
  KeyValueCache cache = m.model.new_cache(1, 8);
  m.model.next_logits(ids_tensor(random_tokens(8)), cache);
  cache.clear();
  const Tensor logits = m.model.next_logits(ids_tensor(tokens), cache);
  CHECK(largest_difference(values_of(logits), logits_without_cache(m.model, tokens)) <= 1e-13);
}

TEST_CASE("errors of a full cache and of a recording tape") {
  Model m(DType::f32);
  KeyValueCache cache = m.model.new_cache(1, 4);
  m.model.next_logits(ids_tensor(random_tokens(3)), cache);
  CHECK_THROWS_WITH_AS(m.model.next_logits(ids_tensor(random_tokens(2)), cache),
                       "transformer: the cache has room for 4 tokens; got 2 more after 3",
                       UsageError);
  Tape tape;
  const TapeScope scope(tape);
  CHECK_THROWS_WITH_AS(m.model.next_logits(ids_tensor(random_tokens(1)), cache),
                       "cached_attention: has no gradient, so it must not be recorded; wrap "
                       "generation in a NoGradScope",
                       UsageError);
  CHECK_THROWS_WITH_AS(m.model.new_cache(1, 0),
                       "kv_cache: batch and capacity must be positive; got 1 and 0", UsageError);
}
