#include "kernels/cost.h"

#include <algorithm>

namespace smoe::kernels {
namespace {

constexpr double kIdBytes = 4;

double bytes_of(const ConstMatrix& m) {
  return m.data ? static_cast<double>(m.rows) * static_cast<double>(m.cols) *
                      static_cast<double>(size_of(m.dtype))
                : 0;
}

double bytes_of(const ExpertMatrices& m, std::int64_t num_experts) {
  return static_cast<double>(num_experts * m.rows * m.cols) * static_cast<double>(size_of(m.dtype));
}

double bytes_of(std::int64_t numel, DType dtype) {
  return static_cast<double>(numel) * static_cast<double>(size_of(dtype));
}

double accumulated_bytes(std::int64_t numel, DType dtype) {
  return bytes_of(numel, accumulation_dtype(dtype));
}

double gemm_flops(std::int64_t m, std::int64_t n, std::int64_t k) {
  return 2.0 * static_cast<double>(m) * static_cast<double>(n) * static_cast<double>(k);
}

// Two GEMMs per head, over `keys` keys per query.
double attention_flops(const AttentionShape& s, double keys) {
  return 4.0 * static_cast<double>(s.num_tokens()) * static_cast<double>(s.output_width()) * keys;
}

double logsumexp_bytes(const AttentionShape& s, DType dtype) {
  return accumulated_bytes(s.num_tokens() * s.num_heads, dtype);
}

double gate_bytes(const RoutingView& routing, DType dtype) {
  return accumulated_bytes(routing.num_rows(), dtype);
}

}  // namespace

Cost cost_of(const AddArgs& a) {
  return {.bytes = 3 * bytes_of(a.numel, a.dtype)};
}

Cost cost_of(const ScaleArgs& a) {
  return {.bytes = bytes_of(a.numel, a.source_dtype) + bytes_of(a.numel, a.target_dtype)};
}

Cost cost_of(const WeightedSumArgs& a) {
  return {.bytes = bytes_of(static_cast<std::int64_t>(a.scalars.size()) + 1, a.dtype)};
}

Cost cost_of(const GatherScalarsArgs& a) {
  const auto count = static_cast<std::int64_t>(a.scalars.size());
  return {.bytes = bytes_of(count, a.dtype) + bytes_of(count, DType::f64)};
}

Cost cost_of(const FillArgs& a) {
  return {.bytes = bytes_of(a.numel, a.dtype)};
}

Cost cost_of(const FillNormalArgs& a) {
  return {.bytes = bytes_of(a.numel, a.dtype)};
}

Cost cost_of(const JitterArgs& a) {
  return {.bytes = 2 * bytes_of(a.numel, a.dtype)};
}

Cost cost_of(const DropoutArgs& a) {
  return {.bytes = 2 * bytes_of(a.numel, a.dtype)};
}

Cost cost_of(const ScaleByArgs& a) {
  return {.bytes = (a.source ? 2 : 1) * bytes_of(a.numel, a.dtype)};
}

Cost cost_of(const SquaredDifferenceArgs& a) {
  return {.bytes = 2 * bytes_of(a.numel, a.dtype) + accumulated_bytes(a.numel, a.dtype)};
}

Cost cost_of(const ScaledDifferenceArgs& a) {
  return {.bytes = 3 * bytes_of(a.numel, a.dtype)};
}

Cost cost_of(const CopyMatrixArgs& a) {
  return {.bytes = bytes_of(a.source) + bytes_of(a.target)};
}

Cost cost_of(const GemmArgs& a) {
  const std::int64_t k = a.transpose_a ? a.a.rows : a.a.cols;
  return {.flops = gemm_flops(a.c.rows, a.c.cols, k),
          .bytes = bytes_of(a.a) + bytes_of(a.b) + (a.beta == 0 ? 1 : 2) * bytes_of(a.c)};
}

Cost cost_of(const EmbeddingArgs& a) {
  return {.bytes = 2 * bytes_of(a.output) + kIdBytes * static_cast<double>(a.output.rows)};
}

Cost cost_of(const EmbeddingBackwardArgs& a) {
  const std::int64_t rows_written =
      a.beta == 0 ? a.dtable.rows : 2 * std::min(a.doutput.rows, a.dtable.rows);
  return {.bytes = bytes_of(a.doutput) + kIdBytes * static_cast<double>(a.doutput.rows) +
                   bytes_of(rows_written * a.dtable.cols, a.dtable.dtype)};
}

Cost cost_of(const RmsNormArgs& a) {
  return {.bytes = bytes_of(a.x) + bytes_of(a.delta) + bytes_of(a.sum) + bytes_of(a.y) +
                   accumulated_bytes(a.x.rows + a.x.cols, a.x.dtype)};
}

Cost cost_of(const RmsNormBackwardArgs& a) {
  const GradientParts& dy = a.dy;
  return {.flops = dy.dlogits.data ? gemm_flops(a.x.rows, a.x.cols, dy.dlogits.cols) : 0,
          .bytes = bytes_of(a.x) + bytes_of(dy.dense) + bytes_of(dy.rows) + bytes_of(dy.dlogits) +
                   bytes_of(dy.weight) + bytes_of(a.dsum) + bytes_of(a.dx) +
                   accumulated_bytes(a.x.rows + a.x.cols, a.x.dtype) +
                   bytes_of(a.x.cols, a.dweight_dtype)};
}

Cost cost_of(const RotaryArgs& a) {
  const AttentionShape& s = a.shape;
  const bool is_in_place = a.source.data == a.target.data;
  const std::int64_t heads = s.num_heads + (is_in_place ? 1 : 2) * s.num_kv_heads;
  return {.bytes = 2 * bytes_of(s.num_tokens() * heads * s.head_dim, a.source.dtype)};
}

Cost cost_of(const RotaryGemmArgs& a) {
  return cost_of(a.gemm());
}

Cost cost_of(const AttentionArgs& a) {
  return {.flops = attention_flops(a.shape, static_cast<double>(a.shape.seq_len) / 2),
          .bytes = bytes_of(a.q) + bytes_of(a.kv) + bytes_of(a.output) +
                   logsumexp_bytes(a.shape, a.q.dtype)};
}

Cost cost_of(const CachedAttentionArgs& a) {
  const AttentionShape& s = a.shape;
  const double keys = static_cast<double>(a.num_cached) + static_cast<double>(s.seq_len + 1) / 2;
  return {.flops = attention_flops(s, keys),
          .bytes = bytes_of(a.q) + bytes_of(a.kv) + bytes_of(a.output) +
                   bytes_of(s.batch * (a.num_cached + s.seq_len) * a.cache.cols, a.cache.dtype)};
}

Cost cost_of(const AttentionBackwardArgs& a) {
  return {.flops = 2.5 * attention_flops(a.shape, static_cast<double>(a.shape.seq_len) / 2),
          .bytes = bytes_of(a.q) + bytes_of(a.kv) + bytes_of(a.output) + bytes_of(a.doutput) +
                   bytes_of(a.dq) + bytes_of(a.dkv) + logsumexp_bytes(a.shape, a.q.dtype)};
}

Cost cost_of(const CrossEntropyArgs& a) {
  return {.bytes = (a.write_gradient ? 2 : 1) * bytes_of(a.logits) +
                   kIdBytes * static_cast<double>(a.logits.rows) +
                   accumulated_bytes(a.logits.rows, a.logits.dtype)};
}

Cost cost_of(const SumLossesArgs& a) {
  return {.bytes = bytes_of(a.numel + 1, a.dtype)};
}

Cost cost_of(const DigestArgs& a) {
  return {.bytes = static_cast<double>(a.bytes)};
}

Cost cost_of(const AdamwArgs& a) {
  std::int64_t numel = 0;
  for (const AdamwRange& range : a.ranges) numel += range.numel;
  // Gradient; weights and moments, both read and written. Split masters have an f32's bytes.
  return {.bytes = bytes_of(numel, a.gradient_dtype) + 2 * bytes_of(numel, a.dtype) +
                   4 * bytes_of(numel, a.moment_dtype)};
}

Cost cost_of(const SplitMastersArgs& a) {
  return {.bytes = bytes_of(a.numel, DType::f32) +
                   (a.remainders ? 2 : 1) * bytes_of(a.numel, DType::bf16)};
}

Cost cost_of(const JoinMastersArgs& a) {
  return {.bytes = bytes_of(a.numel, DType::f32) +
                   (a.remainders ? 2 : 1) * bytes_of(a.numel, DType::bf16)};
}

Cost cost_of(const SumOfSquaresArgs& a) {
  std::int64_t numel = 0;
  for (const ElementRange& range : a.ranges) numel += range.numel;
  return {.bytes = bytes_of(numel, a.dtype)};
}

Cost cost_of(const SequentialSumArgs& a) {
  return {.bytes = bytes_of(a.numel, DType::f64)};
}

Cost cost_of(const ClipCoefficientArgs&) {
  return {.bytes = bytes_of(3, DType::f64)};
}

Cost cost_of(const SelectionBiasArgs& a) {
  return {.bytes = bytes_of(a.num_experts, DType::i64) + 2 * bytes_of(a.num_experts, DType::f32)};
}

Cost cost_of(const RouterForwardArgs& a) {
  const std::int64_t num_rows = a.logits.rows * a.top_k;
  return {.bytes = bytes_of(a.logits) + bytes_of(num_rows, a.logits.dtype) +
                   kIdBytes * static_cast<double>(num_rows)};
}

Cost cost_of(const RouterLossesArgs& a) {
  return {.bytes = bytes_of(a.num_experts + 1, DType::f64) +
                   kIdBytes * static_cast<double>(a.num_experts + 1) + bytes_of(2, a.dtype)};
}

Cost cost_of(const RouterBackwardArgs& a) {
  const std::int64_t num_rows = a.logits.rows * a.top_k;
  return {.bytes = bytes_of(a.logits) + bytes_of(a.dlogits) +
                   (a.dgates ? 2 : 1) * bytes_of(num_rows, a.logits.dtype) +
                   kIdBytes * static_cast<double>(num_rows)};
}

Cost cost_of(const AddRoutingArgs& a) {
  const auto num_layers = static_cast<std::int64_t>(a.layers.size());
  return {.bytes = kIdBytes * static_cast<double>(num_layers * (a.num_experts + 1)) +
                   2 * bytes_of(num_layers * (a.num_experts + 2), DType::f64)};
}

Cost cost_of(const GroupByExpertArgs& a) {
  return {.bytes = kIdBytes * static_cast<double>(3 * a.num_rows + a.num_experts + 1)};
}

Cost cost_of(const GroupedGemmArgs& a) {
  return {.flops = gemm_flops(a.routing.num_rows(), a.weight.rows, a.weight.cols),
          .bytes = bytes_of(a.x.rows) + bytes_of(a.weight, a.routing.num_experts) + bytes_of(a.y) +
                   kIdBytes * static_cast<double>(a.routing.num_rows())};
}

Cost cost_of(const ExpertGradientArgs& a) {
  const std::int64_t out = a.dy.rows.cols, in = a.x.rows.cols;
  return {.flops = gemm_flops(a.routing.num_rows(), out, in),
          .bytes = bytes_of(a.dy.rows) + bytes_of(a.x.rows) +
                   (a.beta == 0 ? 1 : 2) * bytes_of(a.routing.num_experts * out * in, a.dtype)};
}

Cost cost_of(const GroupArgs& a) {
  return {.bytes =
              bytes_of(a.x) + bytes_of(a.grouped) + kIdBytes * static_cast<double>(a.grouped.rows)};
}

Cost cost_of(const ExpertUpArgs& a) {
  return {.flops = gemm_flops(a.routing.num_rows(), a.w1.rows, a.w1.cols),
          .bytes = bytes_of(a.x) + bytes_of(a.w1, a.routing.num_experts) + bytes_of(a.h) +
                   bytes_of(a.a) + gate_bytes(a.routing, a.x.dtype)};
}

Cost cost_of(const ExpertDownBackwardArgs& a) {
  return {.flops = gemm_flops(a.routing.num_rows(), a.w2.rows, a.w2.cols),
          .bytes = bytes_of(a.dout) + bytes_of(a.w2, a.routing.num_experts) + 2 * bytes_of(a.h) +
                   bytes_of(a.a) + 2 * gate_bytes(a.routing, a.dout.dtype)};
}

Cost cost_of(const ActivationArgs& a) {
  return {.bytes = bytes_of(a.h) + bytes_of(a.a)};
}

Cost cost_of(const ActivationBackwardArgs& a) {
  return {.bytes = bytes_of(a.h) + bytes_of(a.da) + bytes_of(a.dh)};
}

Cost cost_of(const CombineArgs& a) {
  return {.bytes = bytes_of(a.y.rows) + bytes_of(a.out) +
                   (a.gates ? gate_bytes(a.routing, a.out.dtype) : 0)};
}

Cost cost_of(const CombineGatesBackwardArgs& a) {
  return {.bytes = bytes_of(a.y.rows) + bytes_of(a.dout) + gate_bytes(a.routing, a.dout.dtype)};
}

Cost cost_of(const CombineBackwardArgs& a) {
  const double gates = gate_bytes(a.routing, a.dout.dtype);
  return {.bytes =
              (a.dgates ? bytes_of(a.y) + gates : 0) + bytes_of(a.dout) + bytes_of(a.dy) + gates};
}

}  // namespace smoe::kernels
