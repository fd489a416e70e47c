#include "kernels/routing.h"

#include <doctest/doctest.h>

#include "core/random.h"
#include "tests/kernels/routing_cases.h"
#include "tests/support/gpu_moe_cases.h"

using namespace smoe;
using namespace smoe::test;
using kernels::RouterScore;

namespace {

struct Case {
  std::int64_t num_tokens, num_experts, top_k;
  RouterScore score;
  DType dtype;

  std::string name() const {
    return concat("T ", num_tokens, " E ", num_experts, " K ", top_k, " score ",
                  static_cast<int>(score), " ", name_of(dtype));
  }
};

// Values of a few bits: equal ones tie on every device, and different ones have different sigmoids.
// Kind 1 has many ties, 2 one preferred expert, 3 experts that are never chosen.
Tensor coarse_logits(int kind, const Case& c) {
  RandomStream stream(5, hash_name("logits"), c.num_tokens * 1000 + kind);
  std::vector<double> values;
  for (std::int64_t t = 0; t < c.num_tokens; ++t)
    for (std::int64_t e = 0; e < c.num_experts; ++e) {
      double value = std::round(stream.normal() * 64) / 64;
      if (kind == 1) value = static_cast<double>(stream.below(3));
      if (kind == 2 && e == c.num_experts / 2) value += 5;
      if (kind == 3 && e % 2 == 0) value -= 5;
      values.push_back(value);
    }
  return tensor_of(values, {c.num_tokens, c.num_experts}, c.dtype);
}

std::vector<Result> run_all(const Case& c, int kind) {
  const Tensor logits = coarse_logits(kind, c);
  Tensor bias;
  if (c.score == RouterScore::sigmoid && kind == 3) {
    std::vector<double> values;  // of few bits, like the logits
    for (std::int64_t e = 0; e < c.num_experts; ++e) values.push_back(e % 3 - 1.0);
    bias = tensor_of(values, {c.num_experts}, DType::f32);
  }
  const RoutingOutputs r = run_routing(logits, bias, c.top_k, c.score);
  const double u = unit_roundoff(c.dtype), tokens = static_cast<double>(c.num_tokens);
  std::vector<Result> results{
      {"gates", r.gates, {.sum_length = c.num_experts}},
      {"expert_ids", r.expert_ids},
      {"sums", r.sums, {.sum_length = c.num_experts, .slack = 64 * u * tokens}},
      {"sorted_scattered_ids", r.sorted_scattered_ids},
      {"grouped_rows", r.grouped_rows},
      {"offsets", r.offsets},
      {"balance loss", r.balance_loss, {.sum_length = (c.num_tokens + 1) * c.num_experts}},
      {"z loss", r.z_loss, {.slack = 64 * u}}};
  const Tensor dgates = random_normal("dgates", {c.num_tokens, c.top_k}, c.dtype);
  const Tensor dbalance = tensor_of({0.75}, {1}, c.dtype), dz = tensor_of({-0.5}, {1}, c.dtype);
  // A logit's gradient is a difference of terms as large as the gates' gradients, or as the term of
  // the expert with the most rows in the balance loss.
  const double of_gates = largest(values_of(dgates));
  const double of_balance = static_cast<double>(c.num_experts) / std::max(tokens, 1.0);
  for (int parts = 0; parts < 8; ++parts) {
    // If every expert is chosen, the balance loss is constant and its gradient is only rounding.
    if (c.top_k == c.num_experts && parts == 2) continue;
    const Tensor dlogits =
        run_router_backward(logits, r, c.score, parts & 1 ? dgates : Tensor(),
                            parts & 2 ? dbalance : Tensor(), parts & 4 ? dz : Tensor());
    const double slack = u * ((parts & 1 ? of_gates : 0) + (parts & 2 ? of_balance : 0));
    results.push_back(
        {concat("dlogits ", parts), dlogits, {.sum_length = 4 * c.num_experts, .slack = slack}});
  }
  std::vector<std::int32_t> others;  // independent of the logits
  for (std::int64_t t = 0; t < c.num_tokens; ++t)
    for (std::int64_t j = 0; j < c.top_k; ++j)
      others.push_back(static_cast<std::int32_t>((t * 5 + j) % c.num_experts));
  const RoutingOutputs given =
      run_routing(logits, {}, c.top_k, c.score, Tensor::from(others, {c.num_tokens, c.top_k}));
  results.push_back({"given ids", given.expert_ids});
  results.push_back({"gates of given ids", given.gates, {.sum_length = c.num_experts}});
  results.push_back({"offsets of given ids", given.offsets});
  const Tensor totals = Tensor::zeros({70, c.num_experts + 2}, DType::f64);
  const Tensor balance = tensor_of({1.5}, {1}, c.dtype), z = tensor_of({0.25}, {1}, c.dtype);
  for (int i = 0; i < 2; ++i) run_add_routing(r.offsets, balance, z, totals);
  results.push_back({"totals", totals});
  return results;
}

}  // namespace

TEST_CASE("routing on the GPU agrees with the CPU's") {
  constexpr std::int64_t kSizes[][3] = {{1, 1, 1},      {0, 4, 2},     {5, 3, 1},     {7, 5, 5},
                                        {67, 8, 2},     {130, 33, 6},  {64, 70, 70},  {5001, 13, 3},
                                        {3000, 128, 8}, {700, 300, 4}, {40, 2000, 2}, {9000, 2, 1}};
  for (const DType dtype : {DType::f32, DType::f64})
    for (const RouterScore score : kRouterScores)
      for (const auto& [t, e, k] : kSizes)
        for (int kind = 0; kind < 4; ++kind) {
          const Case c{t, e, k, score, dtype};
          check_on_gpu(concat(c.name(), " kind ", kind), [&] { return run_all(c, kind); });
        }
}

TEST_CASE("on the GPU too NaN ranks below every number and infinities keep their order") {
  const StreamGuard guard(gpu_stream());
  for (const RouterScore score : kRouterScores) check_nonfinite_logits(score);
}
