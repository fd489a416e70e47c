#include "kernels/routing.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <set>

#include "tests/kernels/routing_cases.h"
#include "tests/reference/routing.h"
#include "tests/support/compare.h"

using namespace smoe;
using namespace smoe::test;
using kernels::RouterScore;

namespace {

reference::routing::Score reference_of(RouterScore score) {
  return static_cast<reference::routing::Score>(score);
}

struct Case {
  std::int64_t num_tokens, num_experts, top_k;
  RouterScore score;
};

using Outputs = RoutingOutputs;

Outputs run_forward(const Tensor& logits, const Tensor& bias, std::int64_t top_k,
                    RouterScore score) {
  const PoisonGuard poison;
  return run_routing(logits, bias, top_k, score);
}

Tensor run_backward(const Tensor& logits, const Outputs& o, RouterScore score, const Tensor& dgates,
                    const Tensor& dbalance, const Tensor& dz) {
  const PoisonGuard poison;
  return run_router_backward(logits, o, score, dgates, dbalance, dz);
}

std::vector<int> ints_of(const Tensor& x) {
  return x.to_vector<std::int32_t>();
}

/// Logits by `kind`: 0 normal, 1 with many ties, 2 with one preferred expert, 3 with experts that
/// are never chosen, 4 large.
Tensor awkward_logits(int kind, const Case& c, RandomStream& stream, DType dtype) {
  std::vector<double> values;
  for (std::int64_t t = 0; t < c.num_tokens; ++t)
    for (std::int64_t e = 0; e < c.num_experts; ++e) {
      double value = stream.normal();
      if (kind == 1) value = static_cast<double>(stream.below(3));
      if (kind == 2 && e == c.num_experts / 2) value += 50;
      if (kind == 3 && e % 2 == 0) value -= 50;
      if (kind == 4) value *= 20;
      values.push_back(value);
    }
  return tensor_of(values, {c.num_tokens, c.num_experts}, dtype);
}

double largest(const Tensor& x) {
  double result = 0;
  for (const double value : values_of(x)) result = std::max(result, std::abs(value));
  return result;
}

void check_plan(const Outputs& o, const Case& c) {
  const std::vector<int> ids = ints_of(o.expert_ids), offsets = ints_of(o.offsets);
  const std::vector<int> sorted = ints_of(o.sorted_scattered_ids), rows = ints_of(o.grouped_rows);
  const auto num_rows = static_cast<std::size_t>(c.num_tokens * c.top_k);
  bool holds = offsets.front() == 0 && offsets.back() == static_cast<int>(num_rows) &&
               std::is_sorted(offsets.begin(), offsets.end());
  std::vector<bool> seen(num_rows, false);
  for (std::size_t row = 0; row < num_rows && holds; ++row) {
    const int id = sorted[row];
    holds = id >= 0 && id < static_cast<int>(num_rows) && !seen[id];
    if (!holds) break;
    const int expert = ids[id];
    holds = expert >= 0 && expert < c.num_experts && rows[id] == static_cast<int>(row) &&
            static_cast<int>(row) >= offsets[expert] && static_cast<int>(row) < offsets[expert + 1];
    // Stable: rows of one expert keep their order.
    holds = holds && (row == 0 || ids[sorted[row - 1]] < expert || sorted[row - 1] < id);
    if (holds) seen[id] = true;
  }
  for (std::int64_t t = 0; t < c.num_tokens && holds; ++t)
    holds = std::set<int>(ids.begin() + t * c.top_k, ids.begin() + (t + 1) * c.top_k).size() ==
            static_cast<std::size_t>(c.top_k);
  CHECK_MESSAGE(holds, "plan broken for T=", c.num_tokens, " E=", c.num_experts, " K=", c.top_k);
}

}  // namespace

TEST_CASE("10,000 random routings keep every invariant and agree with plain loops") {
  RandomStream stream(1, hash_name("routings"));
  int empty = 0, single = 0, all_in_one = 0, ties_by_rounding = 0;
  for (int n = 0; n < 10'000; ++n) {
    Case c{static_cast<std::int64_t>(stream.below(n % 100 == 0 ? 3000 : 24)),
           1 + static_cast<std::int64_t>(stream.below(n % 50 == 0 ? 70 : 12)), 1,
           kRouterScores[n % 4]};
    c.top_k =
        n % 7 == 0 ? c.num_experts : 1 + static_cast<std::int64_t>(stream.below(c.num_experts));
    if (n % 5 == 2) c.top_k = 1;
    const DType dtype = n % 3 == 0 ? DType::f64 : DType::f32;
    const Tensor logits = awkward_logits(n % 5, c, stream, dtype);
    const bool biased = c.score == RouterScore::sigmoid && n % 8 == 3;
    const Tensor bias = biased ? random_normal("bias", {c.num_experts}, DType::f32, 0.3) : Tensor();
    const Outputs o = run_forward(logits, bias, c.top_k, c.score);
    check_plan(o, c);
    const std::vector<int> offsets = ints_of(o.offsets);
    for (std::int64_t e = 0; e < c.num_experts; ++e) {
      const int rows = offsets[e + 1] - offsets[e];
      empty += rows == 0;
      single += rows == 1;
      all_in_one += c.num_tokens > 1 && c.num_experts > 1 && rows == c.num_tokens * c.top_k;
    }
    const auto wanted = reference::routing::forward(
        reference_of(c.score), c.num_tokens, c.num_experts, c.top_k, values_of(logits),
        biased ? values_of(bias) : std::vector<double>());
    // In f32, sigmoids of different logits may round to a tie, so that several choices are correct.
    if (c.score == RouterScore::sigmoid && dtype == DType::f32 &&
        ints_of(o.expert_ids) != wanted.expert_ids) {
      ++ties_by_rounding;
      continue;
    }
    CHECK(ints_of(o.expert_ids) == wanted.expert_ids);
    CHECK(ints_of(o.sorted_scattered_ids) == wanted.sorted_rows);
    CHECK(offsets == wanted.offsets);
    check_close("gates", o.gates, wanted.gates, {.sum_length = c.num_experts});
    check_close("balance loss", o.balance_loss, {wanted.balance_loss},
                {.sum_length = (c.num_tokens + 1) * c.num_experts});
    // A logsumexp near zero is the difference of a maximum and a logarithm of this size.
    const double term = largest(logits) + std::log(static_cast<double>(c.num_experts));
    const double u = unit_roundoff(dtype);
    CHECK(std::abs(o.z_loss.item() - wanted.z_loss) <= 4 * u * term * (term + 1));
  }
  MESSAGE(empty, " experts without a row, ", single, " with one, ", all_in_one, " with all, ",
          ties_by_rounding, " choices skipped");
  CHECK(std::min({empty, single, all_in_one}) > 100);
  CHECK(ties_by_rounding < 500);
}

TEST_CASE("gates of a token sum to one if they are renormalized, otherwise to less") {
  RandomStream stream(2, hash_name("gates"));
  for (const RouterScore score : kRouterScores) {
    const Tensor logits = awkward_logits(0, {50, 9, 3, score}, stream, DType::f64);
    const std::vector<double> gates = values_of(run_forward(logits, {}, 3, score).gates);
    for (std::size_t i = 0; i < gates.size(); i += 3) {
      const double sum = gates[i] + gates[i + 1] + gates[i + 2];
      if (score == RouterScore::softmax_topk)
        CHECK(sum < 0.999);
      else
        CHECK(sum == doctest::Approx(1).epsilon(1e-14));
    }
  }
}

TEST_CASE("the balance loss is one at perfect balance and E / K at full collapse") {
  for (const RouterScore score : kRouterScores) {
    // Four tokens, each of which prefers experts t and t + 1 by the same margin.
    std::vector<double> even, collapsed;
    for (int t = 0; t < 4; ++t)
      for (int e = 0; e < 4; ++e) {
        even.push_back(e == t || e == (t + 1) % 4 ? 1 : -1);
        collapsed.push_back(e < 2 ? 300 : -300);
      }
    const auto balance = [&](const std::vector<double>& logits) {
      return run_forward(tensor_of(logits, {4, 4}, DType::f64), {}, 2, score).balance_loss.item();
    };
    CHECK(balance(even) == doctest::Approx(1).epsilon(1e-15));
    CHECK(balance(collapsed) == doctest::Approx(2).epsilon(1e-15));
  }
}

TEST_CASE("scores that underflow or saturate still give gates that sum to one") {
  const Tensor logits = tensor_of({-300, -301, -400, 100, 101, 30}, {2, 3}, DType::f32);
  for (const RouterScore score :
       {RouterScore::softmax_topk_renorm, RouterScore::topk_softmax, RouterScore::sigmoid}) {
    const std::vector<double> gates = values_of(run_forward(logits, {}, 2, score).gates);
    for (const std::size_t t : {0, 1})
      CHECK(gates[2 * t] + gates[2 * t + 1] == doctest::Approx(1).epsilon(1e-6));
  }
}

TEST_CASE("NaN ranks below every number and infinities keep their order") {
  for (const RouterScore score : kRouterScores)
    check_plan(check_nonfinite_logits(score), {4, 5, 4, score});
}

TEST_CASE("the selection bias changes the choice but no gate") {
  const Tensor logits = tensor_of({2, 1, 0}, {1, 3}, DType::f64);
  const Tensor bias = tensor_of({-0.5, 0, 0.2}, {3}, DType::f32);
  const Outputs o = run_forward(logits, bias, 2, RouterScore::sigmoid);
  CHECK(ints_of(o.expert_ids) == std::vector<int>{1, 2});
  const double s1 = 1 / (1 + std::exp(-1.0)), s2 = 0.5;
  check_close("gates", o.gates, {s1 / (s1 + s2), s2 / (s1 + s2)});
}

TEST_CASE("backward agrees with plain Jacobians, for each combination of gradients") {
  RandomStream stream(3, hash_name("backward"));
  for (const DType dtype : {DType::f32, DType::f64})
    for (const RouterScore score : kRouterScores)
      for (const auto [t, e, k] :
           {std::array{1, 1, 1}, {5, 3, 1}, {0, 4, 2}, {7, 5, 5}, {67, 8, 2}, {130, 33, 6}}) {
        const Tensor logits = awkward_logits(0, {t, e, k, score}, stream, dtype);
        const Outputs o = run_forward(logits, {}, k, score);
        const auto forward =
            reference::routing::forward(reference_of(score), t, e, k, values_of(logits), {});
        REQUIRE(ints_of(o.expert_ids) == forward.expert_ids);
        for (int parts = 0; parts < 8; ++parts) {
          // If every expert is chosen, the balance loss is constant and its gradient is only
          // rounding.
          if (k == e && parts == 2) continue;
          const Tensor dgates = parts & 1 ? random_normal("dgates", {t, k}, dtype) : Tensor();
          const Tensor dbalance = parts & 2 ? tensor_of({0.75}, {1}, dtype) : Tensor();
          const Tensor dz = parts & 4 ? tensor_of({-0.5}, {1}, dtype) : Tensor();
          const auto wanted = reference::routing::backward(
              reference_of(score), t, e, k, values_of(logits), forward,
              parts & 1 ? values_of(dgates) : std::vector<double>(t * k, 0.0), parts & 2 ? 0.75 : 0,
              parts & 4 ? -0.5 : 0);
          check_close("dlogits", run_backward(logits, o, score, dgates, dbalance, dz), wanted,
                      {.sum_length = 4 * e});
        }
      }
}

TEST_CASE("routing gives the same bits for any number of threads") {
  RandomStream stream(4, hash_name("threads"));
  for (const RouterScore score : kRouterScores) {
    const Tensor logits = awkward_logits(0, {5001, 13, 3, score}, stream, DType::f32);
    const Tensor dgates = random_normal("dgates", {5001, 3}, DType::f32);
    const Tensor one = tensor_of({1}, {1}, DType::f32);
    check_thread_independence("routing", [&] {
      const Outputs o = run_forward(logits, {}, 3, score);
      return std::vector{o.gates,
                         o.expert_ids,
                         o.sums,
                         o.sorted_scattered_ids,
                         o.grouped_rows,
                         o.offsets,
                         o.balance_loss,
                         o.z_loss,
                         run_backward(logits, o, score, dgates, one, one)};
    });
  }
}

TEST_CASE("rows and losses of all layers accumulate over micro-batches") {
  for (const DType dtype : {DType::f32, DType::f64}) {
    const Tensor offsets = Tensor::from<std::int32_t>({0, 2, 2, 7}, {4});
    const Tensor balance = tensor_of({1.5}, {1}, dtype), z = tensor_of({0.25}, {1}, dtype);
    const Tensor totals = tensor_of({10, 0, 1, 1, 2, 0, 0, 0, 0, 0}, {2, 5}, DType::f64);
    run_add_routing(offsets, balance, z, totals);
    CHECK(values_of(totals) == std::vector<double>{12, 0, 6, 2.5, 2.25, 2, 0, 5, 1.5, 0.25});
  }
}
