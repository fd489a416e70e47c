#include "layers/model_size.h"

#include <doctest/doctest.h>

#include <string>
#include <vector>

#include "layers/transformer.h"
#include "tests/support/model_cases.h"

using namespace smoe;
using namespace smoe::test;

namespace {

ModelConfig three_layers() {
  ModelConfig c = small_model_config();
  c.num_layers = 3;
  c.d_model = 16;
  return c;
}

}  // namespace

TEST_CASE("the size from the configuration matches the model") {
  for (const bool tied : {false, true})
    for (const std::int64_t shared : {0, 2})
      for (const Activation activation : {Activation::swiglu, Activation::relu2}) {
        ModelConfig c = three_layers();
        c.num_shared_experts = shared;
        c.activation = activation;
        c.tie_embeddings = tied;
        const Transformer model(c);
        std::int64_t total = 0, unused_experts = 0;
        for (const Parameter* parameter : model.parameters()) {
          total += parameter->numel();
          if (parameter->name().find(".experts.") != std::string::npos &&
              parameter->name().find("shared") == std::string::npos)
            unused_experts += parameter->numel() / c.num_experts * (c.num_experts - c.top_k);
        }
        CHECK(model_size(c).total == total);
        CHECK(model_size(c).active ==
              total - unused_experts - (tied ? 0 : c.vocab_size * c.d_model));
      }
}

TEST_CASE("a token of a mixture of attention is multiplied with top_k of its experts") {
  ModelConfig c = three_layers();
  c.attention = small_attention_mixture(true);
  const Transformer model(c);
  std::int64_t total = 0, unused = 0;
  for (const Parameter* parameter : model.parameters()) {
    total += parameter->numel();
    const bool is_attention = parameter->name().find("self_attn") != std::string::npos;
    const std::int64_t num_experts = is_attention ? 3 : c.num_experts;
    if (parameter->name().find(".experts.") != std::string::npos)
      unused += parameter->numel() / num_experts * (num_experts - 2);
  }
  CHECK(model_size(c).total == total);
  CHECK(model_size(c).active == total - unused - c.vocab_size * c.d_model);
}

TEST_CASE("groups cover all parameters, without empty ones") {
  ModelConfig c = three_layers();
  std::vector<std::string> names;
  for (const ParameterGroup& group : parameter_groups(c)) names.emplace_back(name_of(group.part));
  CHECK(names ==
        std::vector<std::string>{"embedding", "attention", "router", "experts", "norms", "head"});
  c.num_shared_experts = 1;
  c.tie_embeddings = true;
  CHECK(parameter_groups(c).size() == 6);
  CHECK(parameter_groups(c)[4].part == ModelPart::shared_experts);
}

TEST_CASE("FLOPs per token are two per multiply-add of its GEMMs") {
  ModelConfig c = three_layers();
  c.vocab_size = 10;
  c.num_shared_experts = 1;
  constexpr double kSeqLen = 50;
  // By hand: packed projection and output, router, three matrices of an expert.
  const double qkv = 16 * (4 + 2 * 2) * 6, output = 4 * 6 * 16, router = 16 * 5;
  const double expert = 3 * 16 * 20, head = 16 * 10;
  const double layer = qkv + output + router + 3 * expert;
  const TokenFlops flops = flops_per_token(c, 50);
  CHECK(flops.weights == 2 * (3 * layer + head));
  // Each query meets half of the keys and values, in 4 heads of dimension 6.
  CHECK(flops.attention == 3 * 2 * (kSeqLen / 2 * 4 * 6 + kSeqLen / 2 * 4 * 6));
  CHECK(flops.training() == 3 * (flops.weights + flops.attention));
  CHECK(flops.recomputed == 0);
  CHECK(flops_per_token(c, 50, Recompute::block).recomputed == flops.forward() - 2 * head);
  // The first GEMM of the routed experts, and all of the shared one.
  CHECK(flops_per_token(c, 50, Recompute::block, 1).recomputed ==
        flops_per_token(c, 50, Recompute::block).recomputed / static_cast<double>(c.num_layers));
  CHECK(flops_per_token(c, 50, Recompute::experts).recomputed ==
        2 * 3 * (2 * 2 * 16 * 20 + expert));
  c.tie_embeddings = true;
  CHECK(flops_per_token(c, 50).forward() == flops.forward());
}

TEST_CASE("the 1.5B model of the ScatterMoE paper has 1.517 billion parameters") {
  CHECK((model_size(scatter_moe_1_5b()).total + 500'000) / 1'000'000 == 1517);
}
