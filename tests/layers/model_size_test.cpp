#include "layers/model_size.h"

#include <doctest/doctest.h>

#include <string>
#include <vector>

#include "layers/transformer.h"

using namespace smoe;

TEST_CASE("the size from the configuration is the size of the model") {
  for (const bool tied : {false, true})
    for (const std::int64_t shared : {0, 2})
      for (const Activation activation : {Activation::swiglu, Activation::relu2}) {
        ModelConfig c;
        c.vocab_size = 31;
        c.num_layers = 3;
        c.d_model = 16;
        c.num_heads = 4;
        c.num_kv_heads = 2;
        c.head_dim = 6;
        c.d_expert = 20;
        c.num_experts = 5;
        c.top_k = 2;
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

TEST_CASE("groups add up, and only those that the model has are named") {
  ModelConfig c;
  c.vocab_size = 31;
  c.num_layers = 3;
  c.d_model = 16;
  c.num_heads = 4;
  c.num_kv_heads = 2;
  c.head_dim = 6;
  c.d_expert = 20;
  c.num_experts = 5;
  c.top_k = 2;
  std::vector<std::string> names;
  for (const ParameterGroup& group : parameter_groups(c)) names.emplace_back(name_of(group.part));
  CHECK(names ==
        std::vector<std::string>{"embedding", "attention", "router", "experts", "norms", "head"});
  c.num_shared_experts = 1;
  c.tie_embeddings = true;
  CHECK(parameter_groups(c).size() == 6);
  CHECK(parameter_groups(c)[4].part == ModelPart::shared_experts);
}

TEST_CASE("FLOP of a token are two for each multiply-add of its products") {
  ModelConfig c;
  c.vocab_size = 10;
  c.num_layers = 3;
  c.d_model = 16;
  c.num_heads = 4;
  c.num_kv_heads = 2;
  c.head_dim = 6;
  c.d_expert = 20;
  c.num_experts = 5;
  c.top_k = 2;
  c.num_shared_experts = 1;
  constexpr double kSeqLen = 50;
  // By hand: packed projection and output, router, three matrices of an expert.
  const double qkv = 16 * (4 + 2 * 2) * 6, output = 4 * 6 * 16, router = 16 * 5;
  const double expert = 3 * 16 * 20, head = 16 * 10;
  const double layer = qkv + output + router + 3 * expert;
  const TokenFlops flops = flops_per_token(c, 50);
  CHECK(flops.weights == 2 * (3 * layer + head));
  // A query meets half of the keys and as many values, in 4 heads of 6.
  CHECK(flops.attention == 3 * 2 * (kSeqLen / 2 * 4 * 6 + kSeqLen / 2 * 4 * 6));
  CHECK(flops.training() == 3 * (flops.weights + flops.attention));
  CHECK(flops.recomputed == 0);
  CHECK(flops_per_token(c, 50, Recompute::block).recomputed == flops.forward() - 2 * head);
  // The first product of the routed experts, and the shared one whole.
  CHECK(flops_per_token(c, 50, Recompute::experts).recomputed ==
        2 * 3 * (2 * 2 * 16 * 20 + expert));
  c.tie_embeddings = true;
  CHECK(flops_per_token(c, 50).forward() == flops.forward());
}

TEST_CASE("the 1.5B model of the ScatterMoE paper has 1.517 billion parameters") {
  ModelConfig c;
  c.vocab_size = 32000;
  c.num_layers = 16;
  c.d_model = 1024;
  c.num_heads = 8;
  c.num_kv_heads = 2;
  c.head_dim = 128;
  c.d_expert = 3584;
  c.num_experts = 8;
  c.top_k = 2;
  CHECK((model_size(c).total + 500'000) / 1'000'000 == 1517);
}
