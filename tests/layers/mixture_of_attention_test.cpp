#include "layers/mixture_of_attention.h"

#include <doctest/doctest.h>

#include "autograd/parameter_store.h"
#include "autograd/rotary_table.h"
#include "autograd/tape.h"
#include "core/memory.h"
#include "tests/support/model_cases.h"
#include "tests/support/tensors.h"

using namespace smoe;
using namespace smoe::test;

namespace {

constexpr std::int64_t kBatch = 2, kSeqLen = 64, kTokens = kBatch * kSeqLen;

ModelConfig config() {
  ModelConfig c = small_model_config();
  c.attention = small_attention_mixture();
  return c;
}

LayerContext context() {
  return ForwardContext{.batch = kBatch, .seq_len = kSeqLen};
}

// Bytes of activations that `forward` keeps for backward, with its result.
template <class F>
std::int64_t kept_bytes(F&& forward) {
  Tape tape;
  const TapeScope scope(tape);
  const std::int64_t before = memory_use(Category::activations).now_bytes;
  const auto kept = forward();
  return memory_use(Category::activations).now_bytes - before;
}

std::string error_of(const std::function<void(ModelConfig&)>& change) {
  ModelConfig c = config();
  change(c);
  try {
    MixtureOfAttention({.name = "layer",
                        .model = c,
                        .rotary_table = std::make_shared<RotaryTable>(),
                        .settings = c.attention.settings});
  } catch (const UsageError& error) {
    return error.what();
  }
  return "no error";
}

}  // namespace

TEST_CASE("a mixture of attention keeps queries, keys, values and outputs, and no expert's rows") {
  const ModelConfig c = config();
  const MixtureOfAttention::Settings mixture(c.attention.settings);
  for (const DType dtype : {DType::f32, DType::bf16}) {
    CAPTURE(name_of(dtype));
    MixtureOfAttention attention({.name = "layer",
                                  .model = c,
                                  .rotary_table = std::make_shared<RotaryTable>(),
                                  .settings = c.attention.settings});
    Router router("gate", {c.d_model, mixture.num_experts, mixture.top_k}, c.router);
    ParameterStore store(attention.parameters(), {.master = DType::f32, .compute = dtype});
    ParameterStore router_store(router.parameters(), {.master = DType::f32, .compute = dtype});
    const Variable x = random_normal("x", {kTokens, c.d_model}, dtype);
    const std::int64_t routing = kept_bytes([&] { return router.forward(x, context()); });
    const std::int64_t kept = kept_bytes([&] { return attention.forward(x, context()); });

    const std::int64_t size = size_of(dtype);
    const std::int64_t heads = kTokens * c.num_heads * c.head_dim * size;  // of q and of the output
    const std::int64_t kv = kTokens * 2 * c.num_kv_heads * c.head_dim * size;
    const std::int64_t logsumexp = kBatch * c.num_heads * kSeqLen * 4;
    const std::int64_t result = kTokens * c.d_model * size;
    CHECK(kept == routing + heads + kv + heads + logsumexp + result);
  }
}

TEST_CASE("sizes that do not fit a mixture of attention are refused") {
  CHECK(error_of([](ModelConfig&) {}) == "no error");
  CHECK(error_of([](ModelConfig& c) { c.attention.settings["top_k"] = std::int64_t{4}; }) ==
        "mixture of attention: top_k must be from 1 to num_experts=3; got 4");
  CHECK(error_of([](ModelConfig& c) { c.num_heads = 6; }) ==
        "mixture of attention: num_heads must be a multiple of top_k * num_kv_heads=4; got 6");
}
