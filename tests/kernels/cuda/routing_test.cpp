#include "kernels/routing.h"

#include <doctest/doctest.h>

#include <limits>

#include "core/random.h"
#include "tests/support/gpu_moe_cases.h"

using namespace smoe;
using namespace smoe::test;
using kernels::RouterScore;

namespace {

constexpr RouterScore kScores[] = {RouterScore::softmax_topk_renorm, RouterScore::softmax_topk,
                                   RouterScore::topk_softmax, RouterScore::sigmoid};

struct Case {
  std::int64_t num_tokens, num_experts, top_k;
  RouterScore score;
  DType dtype;

  std::string name() const {
    return concat("T ", num_tokens, " E ", num_experts, " K ", top_k, " score ",
                  static_cast<int>(score), " ", name_of(dtype));
  }
};

// Numbers with a few bits: equal ones tie on every device, and others stay apart in a sigmoid.
// `kind` 1 has many ties, 2 a favourite expert, 3 experts that nobody chooses.
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

struct Routed {
  Tensor gates, expert_ids, sums, sorted_scattered_ids, grouped_rows, offsets, balance_loss, z_loss;
};

/// With `expert_ids` i32 [T, K] defined, the choice is not made.
Routed route(const Case& c, const Tensor& logits, const Tensor& bias,
             const Tensor& expert_ids = {}) {
  const std::int64_t rows = c.num_tokens * c.top_k;
  const Routed r{
      Tensor::empty({c.num_tokens, c.top_k}, c.dtype),
      expert_ids.defined() ? expert_ids : Tensor::empty({c.num_tokens, c.top_k}, DType::i32),
      Tensor::empty({c.num_experts + 1}, DType::f64),
      Tensor::empty({rows}, DType::i32),
      Tensor::empty({rows}, DType::i32),
      Tensor::empty({c.num_experts + 1}, DType::i32),
      Tensor::empty({1}, c.dtype),
      Tensor::empty({1}, c.dtype)};
  run_kernel(kernels::router_forward, kernels::router_forward_workspace_bytes,
             {.logits = matrix_of(logits),
              .selection_bias = bias.defined() ? bias.data_as<float>() : nullptr,
              .score = c.score,
              .top_k = c.top_k,
              .gates = r.gates.data(),
              .expert_ids = r.expert_ids.data_as<std::int32_t>(),
              .sums = r.sums.data_as<double>(),
              .is_chosen = expert_ids.defined()});
  run_kernel(kernels::group_by_expert, kernels::group_by_expert_workspace_bytes,
             {.expert_ids = r.expert_ids.data_as<std::int32_t>(),
              .num_rows = rows,
              .num_experts = c.num_experts,
              .sorted_scattered_ids = r.sorted_scattered_ids.data_as<std::int32_t>(),
              .grouped_rows = r.grouped_rows.data_as<std::int32_t>(),
              .expert_offsets = r.offsets.data_as<std::int32_t>()});
  kernels::router_losses(launch(),
                         {r.sums.data_as<double>(), r.offsets.data_as<std::int32_t>(), c.num_tokens,
                          c.num_experts, r.balance_loss.data(), r.z_loss.data(), c.dtype});
  return r;
}

std::vector<Result> run_all(const Case& c, int kind) {
  const Tensor logits = coarse_logits(kind, c);
  Tensor bias;
  if (c.score == RouterScore::sigmoid && kind == 3) {
    std::vector<double> values;  // as coarse as the logits
    for (std::int64_t e = 0; e < c.num_experts; ++e) values.push_back(e % 3 - 1.0);
    bias = tensor_of(values, {c.num_experts}, DType::f32);
  }
  const Routed r = route(c, logits, bias);
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
  // A logit's gradient is a difference of numbers as large as the gates', or as what the most
  // crowded expert adds to the balance loss.
  const double of_gates = largest(values_of(dgates));
  const double of_balance = static_cast<double>(c.num_experts) / std::max(tokens, 1.0);
  for (int parts = 0; parts < 8; ++parts) {
    // With every expert chosen the balance loss is constant: rounding is all it leaves.
    if (c.top_k == c.num_experts && parts == 2) continue;
    const Tensor dlogits = Tensor::empty_like(logits);
    kernels::router_backward(
        launch(), {matrix_of(logits), r.expert_ids.data_as<std::int32_t>(),
                   r.offsets.data_as<std::int32_t>(), r.gates.data(), c.score, c.top_k,
                   parts & 1 ? dgates.data() : nullptr, parts & 2 ? dbalance.data() : nullptr,
                   parts & 4 ? dz.data() : nullptr, matrix_of(dlogits)});
    const double slack = u * ((parts & 1 ? of_gates : 0) + (parts & 2 ? of_balance : 0));
    results.push_back(
        {concat("dlogits ", parts), dlogits, {.sum_length = 4 * c.num_experts, .slack = slack}});
  }
  std::vector<std::int32_t> others;  // whatever the logits are
  for (std::int64_t t = 0; t < c.num_tokens; ++t)
    for (std::int64_t j = 0; j < c.top_k; ++j)
      others.push_back(static_cast<std::int32_t>((t * 5 + j) % c.num_experts));
  const Routed given = route(c, logits, {}, Tensor::from(others, {c.num_tokens, c.top_k}));
  results.push_back({"given ids", given.expert_ids});
  results.push_back({"gates of given ids", given.gates, {.sum_length = c.num_experts}});
  results.push_back({"offsets of given ids", given.offsets});
  const Tensor load = Tensor::zeros({c.num_experts}, DType::i64);
  for (int i = 0; i < 2; ++i)
    kernels::add_expert_load(
        launch(), {r.offsets.data_as<std::int32_t>(), c.num_experts, load.data_as<std::int64_t>()});
  results.push_back({"load", load});
  return results;
}

}  // namespace

TEST_CASE("routing on the GPU agrees with the CPU's") {
  constexpr std::int64_t kSizes[][3] = {{1, 1, 1},      {0, 4, 2},     {5, 3, 1},     {7, 5, 5},
                                        {67, 8, 2},     {130, 33, 6},  {64, 70, 70},  {5001, 13, 3},
                                        {3000, 128, 8}, {700, 300, 4}, {40, 2000, 2}, {9000, 2, 1}};
  for (const DType dtype : {DType::f32, DType::f64})
    for (const RouterScore score : kScores)
      for (const auto& [t, e, k] : kSizes)
        for (int kind = 0; kind < 4; ++kind) {
          const Case c{t, e, k, score, dtype};
          check_on_gpu(concat(c.name(), " kind ", kind), [&] { return run_all(c, kind); });
        }
}

TEST_CASE("on the GPU too NaN ranks below every number and infinities keep their order") {
  const StreamGuard guard(gpu_stream());
  const double nan = std::numeric_limits<double>::quiet_NaN(), inf = INFINITY;
  const Tensor logits = tensor_of({nan,  1,    nan,  0,    -inf,  //
                                   nan,  nan,  nan,  nan,  nan,   //
                                   -inf, -inf, -inf, -inf, inf,   //
                                   inf,  nan,  5,    inf,  -inf},
                                  {4, 5}, DType::f32);
  for (const RouterScore score : kScores) {
    const Routed r = route({4, 5, 4, score, DType::f32}, logits, {});
    CHECK(r.expert_ids.to_vector<std::int32_t>() ==
          std::vector<std::int32_t>{1, 3, 4, 0, 0, 1, 2, 3, 4, 0, 1, 2, 0, 3, 2, 4});
    CHECK(std::isnan(r.z_loss.item()));
  }
}
