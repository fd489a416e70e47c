#include <doctest/doctest.h>

#include <algorithm>
#include <limits>

#include "autograd/ops.h"
#include "autograd/tape.h"
#include "core/memory.h"
#include "tests/support/compare.h"
#include "tests/support/gradients.h"
#include "tests/support/routing_plans.h"

using namespace smoe;
using namespace smoe::test;

namespace {

constexpr RouterScore kScores[] = {RouterScore::softmax_topk_renorm, RouterScore::softmax_topk,
                                   RouterScore::topk_softmax, RouterScore::sigmoid};

struct Sizes {
  std::int64_t num_tokens, num_experts, top_k;
};

constexpr Sizes kSizes[] = {{0, 3, 1},  {1, 1, 1},  {1, 2, 1},   {1, 2, 2},  {2, 3, 3},  {3, 5, 2},
                            {4, 4, 4},  {5, 7, 3},  {6, 8, 2},   {7, 9, 9},  {8, 16, 1}, {9, 17, 5},
                            {2, 33, 8}, {1, 64, 6}, {3, 31, 30}, {17, 4, 2}, {31, 3, 1}, {33, 2, 1},
                            {65, 5, 2}, {64, 6, 4}, {130, 3, 2}};

/// Logits whose ranks within a token are at least 0.1 apart, so that a central difference changes
/// no choice. Tokens favour the last experts, so that some stay empty.
Tensor separated_logits(const Sizes& sizes) {
  RandomStream stream(5, sizes.num_tokens * 1000 + sizes.num_experts, sizes.top_k);
  std::vector<double> values;
  for (std::int64_t t = 0; t < sizes.num_tokens; ++t) {
    std::vector<double> row;
    for (std::int64_t e = 0; e < sizes.num_experts; ++e)
      row.push_back(0.11 * static_cast<double>(e) + 0.01 * stream.uniform() - 1);
    for (std::size_t e = row.size() / 2; e > 1; --e)
      std::swap(row[e - 1], row[stream.below(row.size())]);
    values.insert(values.end(), row.begin(), row.end());
  }
  return tensor_of(values, {sizes.num_tokens, sizes.num_experts}, DType::f64);
}

}  // namespace

TEST_CASE("route's gradients agree with central differences in every mode") {
  for (const RouterScore score : kScores)
    for (const Sizes& sizes : kSizes) {
      const Tensor logits = separated_logits(sizes);
      const auto outputs = [&](const std::vector<Variable>& x) {
        const Routing r = route(x[0], score, TopK{sizes.top_k});
        return std::vector{r.gates, r.balance_loss, r.z_loss};
      };
      check_gradients("route", outputs, {logits});
    }
}

TEST_CASE("a selection bias changes the choice, and gradients flow through the scores only") {
  const Tensor logits = separated_logits({9, 6, 2});
  const Tensor bias = tensor_of({0.9, 0, 0, 0.4, 0, -0.7}, {6}, DType::f32);
  const auto choice = [&](const Tensor& b) {
    return route(logits, RouterScore::sigmoid, TopK{2, b})
        .plan.expert_ids.to_vector<std::int32_t>();
  };
  CHECK(choice(bias) != choice({}));
  CHECK(choice(Tensor::zeros({6}, DType::f32)) == choice({}));
  check_gradients("route with bias",
                  [&](const auto& x) {
                    const Routing r = route(x[0], RouterScore::sigmoid, TopK{2, bias});
                    return std::vector{r.gates, r.balance_loss, r.z_loss};
                  },
                  {logits});
}

TEST_CASE("a given plan has the gates and losses of the same choice by score") {
  for (const RouterScore score : kScores)
    for (const Sizes& sizes : kSizes) {
      const PoisonGuard poison;
      const Tensor logits = separated_logits(sizes);
      const Routing made = route(logits, score, TopK{sizes.top_k});
      const Routing given = route(logits, score, made.plan);
      check_same_bits("gates", given.gates.data(), made.gates.data());
      check_same_bits("offsets", given.plan.expert_offsets, made.plan.expert_offsets);
      check_same_bits("balance loss", given.balance_loss.data(), made.balance_loss.data());
      check_same_bits("z loss", given.z_loss.data(), made.z_loss.data());
    }
}

TEST_CASE("a given plan overrides the logits' choice, with its gates and gradients") {
  const Tensor logits = separated_logits({3, 4, 2});
  const Tensor ids = Tensor::from<std::int32_t>({0, 1, 2, 0, 1, 3}, {3, 2});
  const RoutingPlan plan = plan_routing(ids, 4);
  const std::vector<double> z = values_of(logits);
  const Routing routing = route(logits, RouterScore::softmax_topk_renorm, plan);
  CHECK(routing.plan.expert_ids.to_vector<std::int32_t>() == ids.to_vector<std::int32_t>());
  const std::vector<double> gates = values_of(routing.gates.data());
  const double wanted[] = {1 / (1 + std::exp(z[1] - z[0])), 1 / (1 + std::exp(z[4] - z[6])),
                           1 / (1 + std::exp(z[11] - z[9]))};
  for (std::size_t t = 0; t < 3; ++t) {
    CHECK(gates[2 * t] == doctest::Approx(wanted[t]).epsilon(1e-12));
    CHECK(gates[2 * t] + gates[2 * t + 1] == doctest::Approx(1).epsilon(1e-12));
  }
  for (const RouterScore score : kScores)
    check_gradients("route with a given plan",
                    [&](const auto& x) {
                      const Routing r = route(x[0], score, plan);
                      return std::vector{r.gates, r.balance_loss, r.z_loss};
                    },
                    {logits});
}

TEST_CASE("outputs without a gradient contribute nothing") {
  const Tensor logits = separated_logits({5, 4, 2});
  for (const RouterScore score : kScores)
    for (const int only : {0, 1, 2})
      check_gradients(
          "route, one output",
          [&](const auto& x) {
            const Routing r = route(x[0], score, TopK{2});
            return std::vector{only == 0 ? r.gates : only == 1 ? r.balance_loss : r.z_loss};
          },
          {logits});
}

TEST_CASE("a plan of given ids equals a plain counting sort") {
  for (const Spread spread :
       {Spread::uniform, Spread::ends_empty, Spread::middle_empty, Spread::one_expert})
    for (const auto& [num_tokens, num_experts, top_k] : kSizes) {
      const PoisonGuard poison;
      const auto ids = expert_ids_of(num_tokens, top_k, num_experts, spread);
      const RoutingPlan wanted = plan_of(ids, top_k, num_experts);
      const RoutingPlan plan = plan_routing(wanted.expert_ids, num_experts);
      CHECK(plan.num_tokens == num_tokens);
      CHECK(plan.top_k == top_k);
      CHECK(plan.num_experts == num_experts);
      check_same_bits("sorted_scattered_ids", plan.sorted_scattered_ids,
                      wanted.sorted_scattered_ids);
      check_same_bits("grouped_rows", plan.grouped_rows, wanted.grouped_rows);
      check_same_bits("expert_offsets", plan.expert_offsets, wanted.expert_offsets);
    }
}

TEST_CASE("the routing of all layers adds up over micro-batches") {
  const Tensor totals = Tensor::zeros({2, 5}, DType::f64);
  const auto layer = [](const std::vector<std::int32_t>& ids, std::int64_t top_k, double balance) {
    const auto tokens = static_cast<std::int64_t>(ids.size()) / top_k;
    return Routing{.plan = plan_routing(Tensor::from(ids, {tokens, top_k}), 3),
                   .gates = {},
                   .balance_loss = tensor_of({balance}, {1}, DType::f32),
                   .z_loss = tensor_of({2}, {1}, DType::f32)};
  };
  const std::vector<Routing> layers{layer({0, 2, 2, 0, 2, 0}, 2, 1), layer({2, 1, 2}, 1, 1.5)};
  for (int i = 0; i < 2; ++i) add_routing(layers, totals);
  CHECK(values_of(totals) == std::vector<double>{6, 0, 6, 2, 4, 0, 2, 4, 3, 4});
  CHECK_THROWS_AS(add_routing(layers, Tensor::zeros({2, 4}, DType::f64)), UsageError);
}

TEST_CASE("route saves logits, gates and plan, and no workspace") {
  const std::int64_t t = 100, e = 8, k = 2, n = t * k;
  Tape tape;
  const TapeScope scope(tape);
  const Variable logits = tape.watch(random_normal("logits", {t, e}, DType::f32));
  const std::int64_t before = memory_use().now_bytes;
  const Routing r = route(logits, RouterScore::softmax_topk_renorm, TopK{k});
  const std::int64_t plan_bytes = (3 * n + e + 1) * 4;
  CHECK(memory_use().now_bytes - before == n * 4 + 2 * 4 + plan_bytes);
}

TEST_CASE("errors of route and plan_routing") {
  const Tensor logits = Tensor::zeros({2, 4}, DType::f32);
  const auto softmax = RouterScore::softmax_topk;
  CHECK_THROWS_WITH_AS(route(Tensor::zeros({2, 4}, DType::bf16), softmax, TopK{2}),
                       "route: logits must be [T, E] in f32 or f64; got [2, 4] bf16", UsageError);
  CHECK_THROWS_WITH_AS(route(logits, softmax, TopK{5}), "route: top_k must be 1 to E=4; got 5",
                       UsageError);
  CHECK_THROWS_WITH_AS(route(logits, softmax, TopK{0}), "route: top_k must be 1 to E=4; got 0",
                       UsageError);
  CHECK_THROWS_WITH_AS(route(logits, softmax, TopK{1, Tensor::zeros({4}, DType::f32)}),
                       "route: a selection bias needs the sigmoid score", UsageError);
  CHECK_THROWS_WITH_AS(route(logits, RouterScore::sigmoid, TopK{1, Tensor::zeros({3}, DType::f32)}),
                       "route: selection_bias must be [E=4] in f32; got [3] f32", UsageError);
  CHECK_THROWS_WITH_AS(route(logits, softmax, plan_routing(Tensor::zeros({3, 2}, DType::i32), 4)),
                       "route: logits must be [T, E] of the given plan, [3, 4]; got [2, 4]",
                       UsageError);
  CHECK_THROWS_WITH_AS(plan_routing(logits, 4),
                       "plan_routing: expert_ids must be i32 [T, K]; got f32 [2, 4]", UsageError);
}
