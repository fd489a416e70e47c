#include "layers/model_size.h"

#include <doctest/doctest.h>

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
