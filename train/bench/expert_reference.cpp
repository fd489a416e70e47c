#include "train/bench/expert_reference.h"

#include <algorithm>
#include <cmath>
#include <iterator>
#include <numeric>
#include <vector>

#include "train/bench/attention_variant.h"

namespace smoe {
namespace {

using Row = std::vector<double>;

constexpr std::int64_t kCheckedColumns = 256;

Row row_of(const Tensor& matrix, std::int64_t row) {
  return dispatch_floating(matrix.dtype(), [&](auto type) {
    using T = decltype(type);
    const std::int64_t cols = matrix.dim(-1);
    const auto values = matrix.view(row * cols, {cols}).to_vector<T>();
    return Row(values.begin(), values.end());
  });
}

// In several partial sums, which the compiler can keep in vector registers.
template <class T>
double dot(const T* values, const Row& x) {
  constexpr std::size_t kLanes = 8;
  double sums[kLanes] = {};
  std::size_t i = 0;
  for (; i + kLanes <= x.size(); i += kLanes)
    for (std::size_t lane = 0; lane < kLanes; ++lane)
      sums[lane] += static_cast<double>(values[i + lane]) * x[i + lane];
  for (; i < x.size(); ++i) sums[0] += static_cast<double>(values[i]) * x[i];
  return std::accumulate(std::begin(sums), std::end(sums), 0.0);
}

// m x for the matrix [rows, cols] at element `first` of `weights`, a few rows at a time, which stay
// in the cache and in memory that the process already has.
Row matvec(const Tensor& weights, std::int64_t first, std::int64_t rows, const Row& x) {
  constexpr std::int64_t kElementsAtOnce = std::int64_t{1} << 20;
  return dispatch_floating(weights.dtype(), [&](auto type) {
    using T = decltype(type);
    const auto cols = static_cast<std::int64_t>(x.size());
    const std::int64_t at_once = std::max<std::int64_t>(kElementsAtOnce / cols, 1);
    Row y(rows, 0.0);
    for (std::int64_t begin = 0; begin < rows; begin += at_once) {
      const std::int64_t count = std::min(at_once, rows - begin);
      const auto block = weights.view(first + begin * cols, {count * cols}).template to_vector<T>();
      for (std::int64_t r = 0; r < count; ++r) y[begin + r] = dot(&block[r * cols], x);
    }
    return y;
  });
}

// The first columns of W2 a, a = silu(W1[0:F] x) * (W1[F:2F] x), with the matrices of one expert.
Row mlp(const Row& x, const Tensor& w1, const Tensor& w2, std::int64_t expert, std::int64_t f,
        std::int64_t cols) {
  const auto d = static_cast<std::int64_t>(x.size());
  const Row h = matvec(w1, expert * 2 * f * d, 2 * f, x);
  Row a(f);
  for (std::int64_t i = 0; i < f; ++i) a[i] = h[i] / (1 + std::exp(-h[i])) * h[f + i];
  return matvec(w2, expert * d * f, cols, a);
}

// One query row of F columns, heads of head_dim, over rows [keys F, values F] with the same heads.
Row attend(const Row& q, const std::vector<Row>& keys_and_values, std::int64_t head_dim) {
  const std::size_t f = q.size(), c = static_cast<std::size_t>(head_dim);
  Row out(f, 0.0);
  for (std::size_t head = 0; head < f; head += c) {
    double sum = 0;
    Row weighted(c, 0.0);
    for (const Row& row : keys_and_values) {
      double score = 0;
      for (std::size_t i = head; i < head + c; ++i) score += q[i] * row[i];
      const double weight = std::exp(score / std::sqrt(static_cast<double>(head_dim)));
      sum += weight;
      for (std::size_t i = 0; i < c; ++i) weighted[i] += weight * row[f + head + i];
    }
    for (std::size_t i = 0; i < c; ++i) out[head + i] = weighted[i] / sum;
  }
  return out;
}

// The largest difference over the largest value of the reference, which may have fewer values.
template <class A, class B>
double relative_error(const A& values, const B& reference) {
  double difference = 0, largest = 1e-30;
  for (std::size_t i = 0; i < reference.size(); ++i) {
    const double d = std::abs(static_cast<double>(values[i]) - static_cast<double>(reference[i]));
    difference = std::isfinite(d) ? std::max(difference, d) : INFINITY;
    largest = std::max(largest, std::abs(static_cast<double>(reference[i])));
  }
  return difference / largest;
}

// Elements at some thousand places spread over the tensor: all of a large one would take longer
// than the benchmark.
std::vector<double> sampled(const Tensor& tensor) {
  constexpr std::int64_t kBlock = 512, kNumBlocks = 16;
  return dispatch_floating(tensor.dtype(), [&](auto type) {
    using T = decltype(type);
    std::vector<double> values;
    const std::int64_t block = std::min(kBlock, tensor.numel());
    for (std::int64_t i = 0; i < kNumBlocks; ++i) {
      const std::int64_t at =
          (tensor.numel() - block) * i / std::max<std::int64_t>(kNumBlocks - 1, 1);
      for (const T& value : tensor.view(at, {block}).template to_vector<T>())
        values.push_back(static_cast<double>(value));
    }
    return values;
  });
}

double difference_of(const Tensor& values, const Tensor& reference) {
  return relative_error(sampled(values), sampled(reference));
}

// The layouts in which moe_mlp runs a projection.
LinearMode moe_mlp_mode(const LinearMode& mode) {
  if (mode.has_gates)
    return {.input = kernels::RowLayout::grouped,
            .output = kernels::RowLayout::grouped,
            .has_gates = true};
  return {.input = kernels::RowLayout::scattered,
          .output = kernels::RowLayout::grouped,
          .is_per_token = true};
}

}  // namespace

ExpertReference::ExpertReference(const ExpertInputs& inputs, bool trains) : in_(inputs) {
  const bool is_layer = !inputs.mode && !inputs.attention;
  const auto plain = make_variant(is_layer ? VariantKind::loop : VariantKind::gathered, inputs);
  out_ = plain->forward(trains);
  if (trains) {
    plain->backward();
    dx_ = plain->dx;
    dw1_ = plain->dw1;
    dw2_ = plain->dw2;
    dw3_ = plain->dw3;
  }
  constexpr double kAllowed = 0.03;
  const double error = sampled_error(out_, VariantKind::smoe);
  SMOE_INTERNAL_CHECK(error <= kAllowed, "bench: the reference differs from sums in double by ",
                      error, " of the largest value");
}

// Of some columns of the rows of the first and the last token. is_plain: without bias, and with
// gates of one.
double ExpertReference::sampled_linear_error(const Tensor& out, const LinearMode& mode,
                                             bool is_plain) const {
  const ExpertShape& s = in_.shape;
  const std::int64_t cols = std::min(s.d_expert, kCheckedColumns);
  const auto grouped = in_.plan.grouped_rows.to_vector<std::int32_t>();
  const auto row_in = [&](kernels::RowLayout layout, std::int64_t pair) {
    return layout == kernels::RowLayout::grouped ? grouped[pair] : pair;
  };
  double worst = 0;
  for (const std::int64_t t : {std::int64_t{0}, s.num_tokens - 1}) {
    const auto ids = in_.plan.expert_ids.rows(t, t + 1).to_vector<std::int32_t>();
    const Row gates = row_of(in_.gates, t);
    Row combined(cols, 0.0);
    for (std::int64_t j = 0; j < s.top_k; ++j) {
      const std::int64_t pair = t * s.top_k + j;
      const Row x = row_of(in_.x, mode.is_per_token ? t : row_in(mode.input, pair));
      Row y = matvec(in_.w1, ids[j] * s.d_expert * s.d_model, cols, x);
      const Row bias = is_plain ? Row(cols, 0.0) : row_of(in_.bias, ids[j]);
      for (std::int64_t i = 0; i < cols; ++i) {
        y[i] += bias[i];
        combined[i] += (is_plain ? 1 : gates[j]) * y[i];
      }
      if (!mode.has_gates)
        worst = std::max(worst, relative_error(row_of(out, row_in(mode.output, pair)), y));
    }
    if (mode.has_gates) worst = std::max(worst, relative_error(row_of(out, t), combined));
  }
  return worst;
}

// Of a token near the start of the first and of the last sequence, which reads few keys.
double ExpertReference::sampled_attention_error(const Tensor& out) const {
  const ExpertShape& s = in_.shape;
  const kernels::AttentionShape heads = attention_shape(s, *in_.attention);
  const std::int64_t position = std::min<std::int64_t>(2, heads.seq_len - 1), f = s.d_expert;
  double worst = 0;
  for (const std::int64_t sequence : {std::int64_t{0}, heads.batch - 1}) {
    const std::int64_t first = sequence * heads.seq_len, t = first + position;
    std::vector<Row> keys_and_values;
    for (std::int64_t row = first; row <= t; ++row)
      keys_and_values.push_back(matvec(in_.kv, 0, 2 * f, row_of(in_.x, row)));
    const Row x = row_of(in_.x, t), gates = row_of(in_.gates, t);
    const auto ids = in_.plan.expert_ids.rows(t, t + 1).to_vector<std::int32_t>();
    Row expected(s.d_model, 0.0);
    for (std::int64_t j = 0; j < s.top_k; ++j) {
      const Row q = matvec(in_.w1, ids[j] * f * s.d_model, f, x);
      const Row y = matvec(in_.w2, ids[j] * f * s.d_model, s.d_model,
                           attend(q, keys_and_values, heads.head_dim));
      for (std::int64_t i = 0; i < s.d_model; ++i) expected[i] += gates[j] * y[i];
    }
    worst = std::max(worst, relative_error(row_of(out, t), expected));
  }
  return worst;
}

double ExpertReference::sampled_error(const Tensor& out, VariantKind kind) const {
  if (kind == VariantKind::moe_mlp_gemms)
    return sampled_linear_error(out, moe_mlp_mode(*in_.mode), true);
  if (in_.mode) return sampled_linear_error(out, *in_.mode, false);
  if (in_.attention) return sampled_attention_error(out);
  const ExpertShape& s = in_.shape;
  const std::int64_t cols = std::min(s.d_model, kCheckedColumns);
  double worst = 0;
  for (const std::int64_t t : {std::int64_t{0}, s.num_tokens - 1}) {
    const Row x = row_of(in_.x, t);
    Row expected(cols, 0.0);
    if (kind == VariantKind::dense) {
      expected = mlp(x, in_.dense_w1, in_.dense_w2, 0, s.top_k * s.d_expert, cols);
    } else {
      const Row gates = row_of(in_.gates, t);
      const auto ids = in_.plan.expert_ids.rows(t, t + 1).to_vector<std::int32_t>();
      for (std::int64_t j = 0; j < s.top_k; ++j) {
        const Row y = mlp(x, in_.w1, in_.w2, ids[j], s.d_expert, cols);
        for (std::int64_t i = 0; i < cols; ++i) expected[i] += gates[j] * y[i];
      }
    }
    worst = std::max(worst, relative_error(row_of(out, t), expected));
  }
  return worst;
}

double ExpertReference::error_of(VariantKind kind, ExpertVariant& variant, bool trains) const {
  Tensor out = variant.forward(trains);
  if (kind == VariantKind::dense || kind == VariantKind::moe_mlp_gemms) {
    const double error = sampled_error(out, kind);
    if (trains) variant.backward();
    return error;
  }
  double worst = difference_of(out, out_);
  if (!trains) return worst;
  variant.backward();
  for (const auto& [values, reference] :
       {std::pair{variant.dx, dx_}, {variant.dw1, dw1_}, {variant.dw2, dw2_}, {variant.dw3, dw3_}})
    if (reference.defined()) worst = std::max(worst, difference_of(values, reference));
  return worst;
}

}  // namespace smoe
