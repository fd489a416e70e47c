#include "train/bench/expert_inputs.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <vector>

#include "autograd/ops.h"
#include "core/random.h"
#include "kernels/elementwise.h"

namespace smoe {
namespace {

// The first `count` or more numbers of a stream, drawn once for all sizes of a sweep.
const std::vector<float>& unit_normals(const char* name, std::int64_t count) {
  struct Drawn {
    RandomStream random;
    std::vector<float> values{};
  };
  thread_local std::map<std::string, Drawn> streams;
  Drawn& drawn = streams.try_emplace(name, RandomStream(3, hash_name(name))).first->second;
  while (static_cast<std::int64_t>(drawn.values.size()) < count)
    drawn.values.push_back(static_cast<float>(drawn.random.normal()));
  return drawn.values;
}

// Normal values repeated with a period that is no multiple of any row: drawing each would take
// longer than the benchmark.
Tensor normal(const char* name, const Shape& shape, DType dtype, double scale) {
  constexpr std::int64_t kPeriod = (1 << 20) + 7;
  const std::int64_t count = std::min(kPeriod, shape.numel());
  const std::vector<float>& all = unit_normals(name, count);
  const Tensor period = Tensor::from(std::vector<float>(all.begin(), all.begin() + count), {count},
                                     Category::workspace);
  const Tensor x = Tensor::empty(shape, dtype, Category::workspace);
  for (std::int64_t i = 0; i < x.numel(); i += count) {
    const std::int64_t size = std::min(count, x.numel() - i);
    kernels::scale(launch(),
                   {period.data(), DType::f32, x.view(i, {size}).data(), dtype, size, scale});
  }
  return x;
}

// Rows per expert, N in all: the first has `imbalance` times the mean, the others share the rest.
std::vector<std::int64_t> loads_of(const ExpertShape& shape, double imbalance) {
  const std::int64_t n = shape.num_rows(), e = shape.num_experts;
  const auto first = std::min<std::int64_t>(
      shape.num_tokens, std::llround(imbalance * static_cast<double>(n) / static_cast<double>(e)));
  std::vector<std::int64_t> loads{first};
  for (std::int64_t i = 1; i < e; ++i) {
    const std::int64_t given = (n - first) * (i - 1) / (e - 1), next = (n - first) * i / (e - 1);
    loads.push_back(next - given);
  }
  if (e == 1) loads[0] = n;
  return loads;
}

// Experts of the tokens in turn, each expert as often as its load: adjacent rows differ.
RoutingPlan plan_of(const ExpertShape& shape, double imbalance) {
  std::vector<std::int64_t> left = loads_of(shape, imbalance);
  std::vector<std::int32_t> ids;
  RandomStream random(5, hash_name("routing"));
  for (std::int64_t t = 0; t < shape.num_tokens; ++t) {
    // The K experts with the most rows left, among equals at random: distinct for each token.
    std::vector<std::pair<double, std::int32_t>> order;
    for (std::size_t e = 0; e < left.size(); ++e)
      order.emplace_back(-static_cast<double>(left[e]) - random.uniform(),
                         static_cast<std::int32_t>(e));
    std::partial_sort(order.begin(), order.begin() + shape.top_k, order.end());
    for (std::int64_t j = 0; j < shape.top_k; ++j) {
      ids.push_back(order[j].second);
      --left[order[j].second];
    }
  }
  return plan_routing(Tensor::from(ids, {shape.num_tokens, shape.top_k}, Category::workspace),
                      shape.num_experts);
}

double weight_scale(std::int64_t num_inputs) {
  return 1 / std::sqrt(static_cast<double>(num_inputs));
}

}  // namespace

std::string LinearMode::text() const {
  const auto name = [](kernels::RowLayout layout) {
    return layout == kernels::RowLayout::grouped ? "grouped" : "scattered";
  };
  return std::string(is_per_token ? "tokens" : name(input)) + " -> " +
         (has_gates ? "gates" : name(output));
}

double ExpertShape::forward_flops() const {
  return 6.0 * static_cast<double>(num_rows()) * static_cast<double>(d_model) *
         static_cast<double>(d_expert);
}

ExpertInputs::ExpertInputs(const ExpertShape& s, double imbalance)
    : shape(s),
      plan(plan_of(s, imbalance)),
      x(normal("x", {s.num_tokens, s.d_model}, s.dtype, 1)),
      dout(normal("dout", {s.num_tokens, s.d_model}, s.dtype, 1)),
      gates(normal("gates", {s.num_tokens, s.top_k}, accumulation_dtype(s.dtype), 1)),
      w1(normal("w1", {s.num_experts, 2 * s.d_expert, s.d_model}, s.dtype,
                weight_scale(s.d_model))),
      w2(normal("w2", {s.num_experts, s.d_model, s.d_expert}, s.dtype, weight_scale(s.d_expert))),
      dense_w1(
          normal("w1", {2 * s.top_k * s.d_expert, s.d_model}, s.dtype, weight_scale(s.d_model))),
      dense_w2(normal("w2", {s.d_model, s.top_k * s.d_expert}, s.dtype, weight_scale(s.d_expert))) {
}

ExpertInputs::ExpertInputs(const ExpertShape& s, const LinearMode& linear)
    : shape(s),
      plan(plan_of(s, 1)),
      x(normal("x", {linear.is_per_token ? s.num_tokens : s.num_rows(), s.d_model}, s.dtype, 1)),
      dout(
          normal("dout", {linear.has_gates ? s.num_tokens : s.num_rows(), s.d_expert}, s.dtype, 1)),
      gates(normal("gates", {s.num_tokens, s.top_k}, accumulation_dtype(s.dtype), 1)),
      w1(normal("w1", {s.num_experts, s.d_expert, s.d_model}, s.dtype, weight_scale(s.d_model))),
      mode(linear),
      bias(normal("bias", {s.num_experts, s.d_expert}, s.dtype, 1)) {}

ExpertInputs::ExpertInputs(const ExpertShape& s, const AttentionMode& heads)
    : shape(s),
      plan(plan_of(s, 1)),
      x(normal("x", {s.num_tokens, s.d_model}, s.dtype, 1)),
      dout(normal("dout", {s.num_tokens, s.d_model}, s.dtype, 1)),
      gates(normal("gates", {s.num_tokens, s.top_k}, accumulation_dtype(s.dtype), 1)),
      w1(normal("w1", {s.num_experts, s.d_expert, s.d_model}, s.dtype, weight_scale(s.d_model))),
      w2(normal("w2", {s.num_experts, s.d_model, s.d_expert}, s.dtype, weight_scale(s.d_expert))),
      attention(heads),
      kv(normal("kv", {2 * s.d_expert, s.d_model}, s.dtype, weight_scale(s.d_model))) {}

}  // namespace smoe
