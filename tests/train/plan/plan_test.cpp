#include "train/plan/plan.h"

#include <doctest/doctest.h>

#include <nlohmann/json.hpp>

#include "tests/support/temporary_folder.h"
#include "tests/train/small_run.h"
#include "train/plan/plan_text.h"
#include "train/plan/warnings.h"

using namespace smoe;
using namespace smoe::test;

namespace {

// A configuration without warnings.
Config healthy() {
  Config c = small_config("/nowhere");
  c.model = {.vocab_size = 512,
             .num_layers = 1,
             .d_model = 64,
             .num_heads = 2,
             .num_kv_heads = 2,
             .head_dim = 32,
             .d_expert = 128,
             .num_experts = 4,
             .top_k = 2,
             .router = {}};
  c.model.router.z_loss = 1e-3;
  c.train.precision = DType::bf16;
  c.train.seq_len = 64;
  c.train.micro_batch = c.train.global_batch = 4;
  c.train.steps = 100'000;
  c.schedule.warmup_steps = 1000;
  return c;
}

std::string warnings(const Config& config) {
  std::string all;
  for (const PlanWarning& warning : make_plan(config).warnings) {
    CHECK(!warning.why.empty());
    CHECK(!warning.change.empty());
    all += warning.what + "\n";
  }
  return all;
}

struct Case {
  std::function<void(Config&)> change;
  std::string what;  // the only warning after the change
};

}  // namespace

TEST_CASE("a healthy configuration has no warning, and each problem its own") {
  CHECK(warnings(healthy()) == "");
  const std::vector<Case> cases = {
      {[](Config& c) { c.model.top_k = 4; }, "model.top_k is model.num_experts, 4"},
      {[](Config& c) { c.model.router.balance_loss = 0; }, "nothing balances the experts"},
      {[](Config& c) { c.model.router.balance_loss = 0.5; },
       "model.router.balance_loss is 0.5, 0.5 per layer"},
      {[](Config& c) {
         c.model.router.score = RouterScore::sigmoid;
         c.model.router.selection_bias_rate = 0.001;
       },
       "both a balance loss and a selection bias balance the experts"},
      {[](Config& c) {
         c.model.top_k = 1;
         c.model.num_experts = 2;
       },
       "model.top_k is 1 with gates that sum to one"},
      {[](Config& c) { c.model.router.z_loss = 0; }, "no router z-loss with bf16"},
      {[](Config& c) { c.train.micro_batch = 1; }, "32 rows per expert and micro-batch"},
      {[](Config& c) {
         c.train.micro_batch = 1;
         c.train.seq_len = 1;
         c.train.steps *= 64;
       },
       "0.5 rows per expert and micro-batch"},
      {[](Config& c) { c.model.vocab_size = 513; }, "model.vocab_size is 513, not a multiple of 8"},
      {[](Config& c) { c.model.d_expert = 132; },
       "model.d_expert is 132, not a multiple of 8\n"
       "model.d_expert is 132"},
      {[](Config& c) { c.model.d_expert = 136; }, "model.d_expert is 136"},
      {[](Config& c) { c.model.head_dim = 48; }, "model.head_dim is 48"},
      {[](Config& c) { c.train.steps = 1000; }, "2.6 training tokens per active parameter"},
      {[](Config& c) { c.schedule.warmup_steps = 0; }, "no warm-up"},
      {[](Config& c) { c.optim.clip_norm = 0; }, "gradients are not clipped"},
  };
  for (const Case& one : cases) {
    Config config = healthy();
    one.change(config);
    CHECK(warnings(config) == one.what + "\n");
  }
  // In f32 rows need no such alignment, and the router's logits are not rounded.
  Config f32 = healthy();
  f32.train.precision = DType::f32;
  f32.model.vocab_size = 513;
  f32.model.router.z_loss = 0;
  CHECK(warnings(f32) == "");
}

TEST_CASE("a machine that is too small is the first warning") {
  Plan plan = make_plan(healthy());
  const auto all = warnings_of(plan, plan.memory.total_peak_bytes - 1);
  REQUIRE(all.size() == 1);
  CHECK(all[0].what.find("of memory at the peak") != std::string::npos);
  CHECK(warnings_of(plan, plan.memory.total_peak_bytes).empty());
  CHECK(warnings_of(plan, 0).empty());  // not known
  CHECK(make_plan(healthy(), 1, 1000).warnings.size() == 1);
}

TEST_CASE("the vocabulary and the epochs come from the token set") {
  const TemporaryFolder folder;
  Config config = small_config(folder.path());
  config.model.vocab_size = 0;
  CHECK(message_of([&] { make_plan(config); }) ==
        "data.path: there is no " + config.data.path +
            ", from which model.vocab_size=0 is resolved; make it with `smoe prepare`, or set "
            "model.vocab_size");
  write_small_token_set(config.data.path);
  config.train.steps = 2000;
  const Plan plan = make_plan(config);
  CHECK(plan.config.model.vocab_size == 257);
  CHECK(plan.tokens_per_micro_batch() == 2 * 17);
  CHECK(plan.tokens() == 2000 * 4 * 17);
  CHECK(plan.rows_per_expert() == 2 * 17 * 2 / 4.0);
  CHECK(plan.epochs() ==
        doctest::Approx(2000.0 * 4 * 17 / static_cast<double>(plan.data->training_tokens)));
  CHECK(plan_text(plan).find("the run reads its text 5.9 times") != std::string::npos);
}

TEST_CASE("text and JSON show the plan") {
  const Plan plan = make_plan(healthy());
  const std::string text = plan_text(plan);
  CHECK(text.starts_with("small: 181 k parameters, 98.8 k of them active; 1 layer of width 64"));
  for (const char* part : {"\n  experts                   98,304     54 %            49,152\n",
                           "  training     ", "   on 1 H100 or H200, at 47 % of 989 TFLOP/s each\n",
                           "\n  expert                     128   rows per",
                           "\nmemory            compute in bf16, train.recompute=none\n"})
    CHECK_MESSAGE(text.find(part) != std::string::npos, text);
  for (std::size_t at = 0; at < text.size(); at = text.find('\n', at) + 1)
    CHECK(text.find('\n', at) - at <= 110);
  const auto json = nlohmann::json::parse(plan_json(plan));
  CHECK(json["parameters"]["total"] == plan.size.total);
  CHECK(json["parameters"]["groups"]["experts"]["active"] == 49152);
  CHECK(json["flops_per_token"]["training"] == plan.flops.training());
  CHECK(json["memory_bytes"]["peak"] == plan.memory.total_peak_bytes);
  CHECK(json["memory_bytes"]["peak_by_category"].size() == kNumCategories);
  CHECK(json["warnings"].empty());
}

TEST_CASE("a run on a CPU has a time where the CPU's speed is known") {
  Config config = healthy();
  config.train.precision = DType::f32;
  Plan plan = make_plan(config);
  CHECK(plan_text(plan).find("\n  time ") == std::string::npos);
  plan.cpu_flops_per_s = plan.step.flops * static_cast<double>(config.train.steps) / (0.7 * 90);
  const std::string text = plan_text(plan);
  CHECK_MESSAGE(text.find("\n  time                     1m30s   on this CPU, at 70 % of the ") !=
                    std::string::npos,
                text);
}

TEST_CASE("a plan for several ranks shows what each needs and sends, without and with ZeRO") {
  Config config = healthy();
  config.train.micro_batch = 1;
  CHECK(make_plan(config).ranks.empty());
  CHECK(message_of([&] { make_plan(config, 3); }).starts_with("train.global_batch: must be "));
  const Plan plan = make_plan(config, 4);
  REQUIRE(plan.ranks.size() == 2);
  const auto& [whole, sharded] = std::pair(plan.ranks[0], plan.ranks[1]);
  // Two f32 moments per parameter, of which a rank keeps a quarter; shards are whole cache lines.
  const std::int64_t saved = whole.memory.resting_bytes - sharded.memory.resting_bytes;
  CHECK(saved > 0.74 * 8 * static_cast<double>(plan.size.total));
  CHECK(whole.communication.reduce_bytes == 2 * (4 * plan.size.total / 4 * 3));
  CHECK(whole.communication.gather_bytes == 0);
  CHECK(sharded.communication.reduce_bytes == 4 * plan.size.total / 4 * 3);
  CHECK(sharded.communication.gather_bytes == 2 * plan.size.total / 4 * 3);
  config.train.grad_dtype = DType::bf16;
  CHECK(make_plan(config, 4).ranks[1].communication.reduce_bytes == 2 * plan.size.total / 4 * 3);
  const std::string text = plan_text(plan);
  CHECK_MESSAGE(text.find("\n4 ranks, each with 1 micro-batch per step\n") != std::string::npos,
                text);
  for (std::size_t at = 0; at < text.size(); at = text.find('\n', at) + 1)
    CHECK(text.find('\n', at) - at <= 110);
  const auto json = nlohmann::json::parse(plan_json(plan));
  CHECK(json["num_ranks"] == 4);
  CHECK(json["rank"][1]["peak_bytes"] == sharded.memory.total_peak_bytes);
}

TEST_CASE("the time of communication is that of the slowest link") {
  constexpr std::int64_t kGradients = 6'068'000'000, kWeights = kGradients / 2;
  const auto cost = [](bool zero, int num_ranks) {
    return communication_cost(kGradients, kWeights, zero, {.num_ranks = num_ranks});
  };
  CHECK(cost(false, 2).reduce_bytes == kGradients);
  CHECK(cost(false, 2).reduce_ms == doctest::Approx(16.4).epsilon(0.01));
  CHECK(cost(true, 8).reduce_ms == doctest::Approx(14.35).epsilon(0.01));
  CHECK(cost(true, 8).gather_ms == doctest::Approx(7.2).epsilon(0.01));
  // Between 128 hosts the network takes longer than the links within them.
  CHECK(cost(false, 1024).reduce_ms == doctest::Approx(33.4).epsilon(0.01));
  CHECK(cost(false, 1).reduce_ms == 0);
}

TEST_CASE("the plan names the form of the expert GEMMs on Hopper, and why not a faster one") {
  const auto text_with = [](const std::function<void(Config&)>& change) {
    Config config = healthy();
    change(config);
    return plan_text(make_plan(config));
  };
  const auto shows = [](const std::string& text, const char* part) {
    CHECK_MESSAGE(text.find(part) != std::string::npos, text);
  };
  shows(text_with([](Config&) {}),
        "  expert GEMMs             wgmma   on Hopper, in tiles of 128 x 256\n");
  shows(text_with([](Config& c) { c.model.num_experts = 520; }),
        "mma.sync   on Hopper, in tiles of 128 x 256, because there are more than 512 experts\n");
  shows(text_with([](Config& c) { c.train.precision = DType::f32; }),
        "SIMT (FFMA)   on Hopper, in tiles of 128 x 128, because the dtype is not bf16\n");
}

TEST_CASE("the cost of a step's kernels is that of the model's FLOP, and of what is recomputed") {
  Config c = healthy();
  const auto flops = [&](Recompute recompute) {
    c.train.recompute = recompute;
    return make_plan(c).step.flops;
  };
  const Plan plan = make_plan(c);
  const auto tokens = static_cast<double>(plan.tokens_per_step());
  // Attention's backward executes 2.5 forwards of which training() counts 2.
  const double executed = tokens * (plan.flops.training() + plan.flops.attention / 2);
  CHECK(flops(Recompute::none) == doctest::Approx(executed).epsilon(1e-9));
  for (const Recompute recompute : {Recompute::experts, Recompute::block}) {
    const double more = flops(recompute) - executed;
    CHECK(more == doctest::Approx(tokens * make_plan(c).flops.recomputed).epsilon(1e-9));
  }
  CHECK(plan.step.bytes > 0);
}
