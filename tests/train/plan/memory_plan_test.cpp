#include "train/plan/memory_plan.h"

#include <doctest/doctest.h>

#include "core/device.h"
#include "layers/model_size.h"
#include "tests/support/layer_kinds.h"
#include "tests/support/ranks.h"
#include "tests/train/plan/measured_memory.h"
#include "tests/train/small_run.h"

using namespace smoe;
using namespace smoe::test;

TEST_CASE("the plan matches the accounting of real steps, to the byte") {
  SmallRun run;
  run.config.run.device = "cpu";
  const Config& small = run.config;
  const TrainingData set = TrainingData::open(small.data);

  Config wide = small;
  wide.model.d_model = 40;
  wide.model.num_shared_experts = 2;
  wide.model.top_k = 3;
  wide.model.tie_embeddings = true;
  wide.train.micro_batch = wide.train.global_batch = 8;
  Config mixture = small;
  mixture.model.attention = small_attention_mixture(true);
  Config deep = small;
  deep.model.num_layers = 5;
  deep.model.num_experts = 16;
  deep.model.top_k = 1;
  deep.model.activation = Activation::relu2;
  deep.model.router.score = RouterScore::sigmoid;
  deep.model.router.selection_bias_rate = 0.01;
  deep.model.router.jitter = 0.01;
  deep.train.seq_len = 150;

  Config lean = deep;
  lean.train.recompute_layers = 2;
  lean.optim.moments = DType::bf16;
  lean.train.grad_dtype = DType::bf16;  // where the precision is bf16

  register_test_kinds();
  Config adapted = deep;  // trains adapters of a registered kind on a base
  adapted.model.attention.kind = "test_routed";
  adapted.model.mlp.kind = "test_adapters";
  adapted.model.train_only = "lora";

  Config many = small;
  many.train.micro_batch = 1;
  many.train.global_batch = 9;

  Config rounded = mixture;
  rounded.train.grad_dtype = DType::bf16;
  rounded.train.global_batch = 12;

  for (const Config& base : {small, wide, mixture, deep, lean, adapted, many, rounded})
    for (const DType precision : {DType::f32, DType::bf16, DType::f64})
      for (const Recompute recompute : {Recompute::none, Recompute::experts, Recompute::block}) {
        Config config = base;
        config.train.precision = precision;
        if (precision == DType::f64) config.optim.moments = DType::f32;
        if (precision != DType::bf16) config.train.grad_dtype = DType::f32;
        config.train.recompute = recompute;
        const std::string dtype = name_of(precision);
        CAPTURE(dtype);
        CAPTURE(static_cast<int>(recompute));
        CAPTURE(config.model.d_model);
        check_equal(plan_memory(config), measured_memory(config, set, 2));
      }
}

TEST_CASE("what is not trained has no gradients, no moments and no remainders in the plan") {
  register_test_kinds();
  Config config = small_config("");
  config.train.precision = DType::bf16;
  config.model.mlp.kind = "test_adapters";
  const MemoryPlan all = plan_memory(config);
  config.model.train_only = "lora";
  const MemoryPlan some = plan_memory(config);
  // Three small parameters per layer; each is padded to a multiple of 64 elements.
  const std::int64_t padding = 2 * 3 * 64, trained = model_size(config.model).trained;
  CHECK(some.of(Category::gradients) <= 4 * (trained + padding));
  CHECK(some.of(Category::optimizer) <= 8 * (trained + padding));
  const std::int64_t base = model_size(config.model).total - trained;
  CHECK(all.of(Category::parameters) - some.of(Category::parameters) >= 2 * (base - 1000));
  CHECK(all.resting_bytes - some.resting_bytes >= 14 * (base - 1000));
}

TEST_CASE("the plan of two ranks matches what two keep between steps") {
  const SmallRun run;
  const TrainingData set = TrainingData::open(run.config.data);
  for (const bool zero : {false, true}) {
    CAPTURE(zero);
    Config config = run.config;
    config.parallel.zero = zero;
    const std::int64_t before = memory_use().now_bytes;
    on_ranks(2, [&](Communicator& ranks, RendezvousStore&) {
      Trainer trainer(config, set, ranks);
      ranks.barrier()->wait();
      if (ranks.rank() == 0) {
        const auto both = static_cast<double>(memory_use().now_bytes - before);
        CHECK(both == doctest::Approx(2.0 * plan_memory(config, 2).resting_bytes).epsilon(0.02));
      }
      ranks.barrier()->wait();
    });
  }
}

TEST_CASE("planning allocates no memory and leaves the current device unchanged") {
  Config config = small_config("");
  config.model = scatter_moe_1_5b();
  config.train.seq_len = 2048;
  config.train.micro_batch = config.train.global_batch = 16;
  config.train.precision = DType::bf16;
  const std::int64_t before = memory_use().now_bytes;
  reset_peak_memory();
  const MemoryPlan plan = plan_memory(config);
  CHECK(memory_use().peak_bytes == before);
  CHECK(current_stream().device().type == DeviceType::cpu);
  // 1.517 B parameters: weights and their remainders in two bytes each, gradients and two moments
  // in four.
  CHECK(plan.of(Category::optimizer) > 8 * 1'516'900'000LL);
  CHECK(plan.of(Category::parameters) + plan.of(Category::gradients) > 8 * 1'516'900'000LL);
  CHECK(plan.resting_bytes < 16 * 1'518'000'000LL);
  // A second plan is the same.
  CHECK(plan_memory(config).total_peak_bytes == plan.total_peak_bytes);
  config.optim.moments = DType::bf16;
  CHECK(plan_memory(config).of(Category::optimizer) == plan.of(Category::optimizer) / 2);
  config.train.grad_dtype = DType::bf16;
  CHECK(plan_memory(config).of(Category::gradients) == plan.of(Category::gradients) / 2);
}
