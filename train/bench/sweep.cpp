#include "train/bench/sweep.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <numeric>
#include <span>

#include "core/gpu.h"
#include "core/memory.h"
#include "kernels/threads.h"
#include "layers/model_size.h"
#include "train/bench/attention_variant.h"
#include "train/bench/expert_reference.h"
#include "train/bench/gathered_mlp.h"
#include "train/bench/linear_variant.h"
#include "train/bench/model_variant.h"
#include "train/profile/timing.h"

namespace smoe {
namespace {

constexpr int kMinRuns = 3, kMaxRuns = 100;

struct SweepSpec {
  const char* name;
  const char* meaning;
  const char* x_name;
  bool trains;
};
constexpr SweepSpec kSweeps[] = {
    {"layer", "the paper's unit layer and the 1.5B model's, by number of experts", "experts", true},
    {"granularity", "finer experts at equal active FLOP: K of E = 8 K experts of width 8192 / K",
     "top_k", true},
    {"sparsity", "more experts per token of E = 64 of width 1024", "top_k", true},
    {"batch", "more tokens, K = 8 of E = 64 experts of width 1024", "tokens", true},
    {"imbalance", "load of the busiest of E = 8 experts over the mean, K = 2", "imbalance", true},
    {"inference", "forward alone: more tokens, K = 2 of E = 8 experts of width 3584", "tokens",
     false},
    {"parallel_linear",
     "ParallelLinear with bias in each pair of layouts, at the sizes of six layers", "case", true},
    {"attention",
     "a mixture of attention, C = 128: K of E = 8 K experts with 1 / K of the query heads each",
     "top_k", true},
    {"model", "training steps of the paper's 1.5B model; backward includes the update", "sequences",
     true}};

using kernels::RowLayout;
constexpr LinearMode kModes[] = {
    {.input = RowLayout::scattered, .output = RowLayout::grouped, .is_per_token = true},
    {.input = RowLayout::scattered, .output = RowLayout::grouped},
    {.input = RowLayout::scattered, .output = RowLayout::scattered},
    {.input = RowLayout::grouped, .output = RowLayout::grouped},
    {.input = RowLayout::grouped, .output = RowLayout::scattered},
    {.input = RowLayout::scattered, .output = RowLayout::grouped, .has_gates = true},
    {.input = RowLayout::grouped, .output = RowLayout::grouped, .has_gates = true}};

// Sizes of layers: of the paper's 1.5B model, of its unit layer at two granularities, and of finer
// experts (OLMoE's is the fifth).
struct LayerSizes {
  std::int64_t num_tokens, d_model, d_expert, num_experts, top_k;
};
constexpr LayerSizes kLayers[] = {{32768, 1024, 3584, 8, 2},  {61440, 4096, 2048, 32, 4},
                                  {30720, 4096, 2048, 64, 8}, {32768, 4096, 1024, 128, 8},
                                  {32768, 2048, 1024, 64, 8}, {40960, 1536, 256, 128, 8}};

std::vector<SweepPoint> points_of(const std::string& name, std::int64_t scale, DType dtype) {
  const auto divided = [&](std::int64_t value) { return std::max<std::int64_t>(value / scale, 8); };
  const auto shape = [&](std::int64_t t, std::int64_t d, std::int64_t f, std::int64_t e,
                         std::int64_t k) {
    return ExpertShape{divided(t), divided(d), divided(f), e, k, dtype};
  };
  const auto layer = [&](const LayerSizes& l) {
    return shape(l.num_tokens, l.d_model, l.d_expert, l.num_experts, l.top_k);
  };
  std::vector<SweepPoint> points;
  if (name == "layer") points = {{8, layer(kLayers[0])}, {32, layer(kLayers[1])}};
  if (name == "granularity")
    for (const std::int64_t k : {1, 2, 4, 8, 16})
      points.push_back({static_cast<double>(k), shape(16384, 4096, 8192 / k, 8 * k, k)});
  if (name == "sparsity")
    for (const std::int64_t k : {1, 2, 4, 8, 16, 30})
      points.push_back({static_cast<double>(k), shape(8192, 4096, 1024, 64, k)});
  if (name == "batch")
    for (const std::int64_t t : {1, 2, 4, 8, 16, 30})
      points.push_back({0, shape(2048 * t, 4096, 1024, 64, 8)});
  if (name == "imbalance")
    for (const double ratio : {1.0, 1.5, 2.0, 3.0, 4.0})
      points.push_back({ratio, shape(32768, 1024, 3584, 8, 2), ratio});
  if (name == "inference")
    for (const std::int64_t t : {64, 256, 1024, 4096, 16384})
      points.push_back({0, shape(t * 8, 1024, 3584, 8, 2)});
  if (name == "parallel_linear")
    for (const LayerSizes& sizes : kLayers)
      for (const LinearMode& mode : kModes)
        points.push_back(
            {.x = static_cast<double>(points.size() + 1), .shape = layer(sizes), .mode = mode});
  if (name == "attention")
    for (const std::int64_t k : {1, 2, 4, 8, 16})
      points.push_back({.x = static_cast<double>(k),
                        .shape = shape(16384, 4096, 4096 / k, 8 * k, k),
                        .attention = AttentionMode{.num_sequences = 8, .num_heads = 32}});
  if (name == "model") {
    const Config config = paper_model(scale, dtype);
    const ModelConfig& m = config.model;
    const std::int64_t sequences = config.train.micro_batch;
    points.push_back({.x = static_cast<double>(sequences),
                      .shape = {sequences * config.train.seq_len, m.d_model, m.d_expert,
                                m.num_experts, m.top_k, dtype},
                      .model = config});
  }
  for (SweepPoint& point : points)
    if (point.x == 0) point.x = static_cast<double>(point.shape.num_tokens);
  return points;
}

void drop_weight_gradients(ExpertVariant& variant) {  // to have room for another variant's
  variant.dw1 = variant.dw2 = variant.dw3 = Tensor();
}

// A variant whose results agree, and the times of its runs.
struct TimedVariant {
  Measurement measurement;
  std::unique_ptr<ExpertVariant> variant;
  std::vector<double> forward_ms{}, backward_ms{};

  double run(bool trains, bool is_counted) {
    Tensor out;
    const double forward = time_ms([&] { out = variant->forward(trains); });
    out = Tensor();
    const double backward = trains ? time_ms([&] { variant->backward(); }) : 0;
    drop_weight_gradients(*variant);
    if (is_counted) {
      forward_ms.push_back(forward);
      backward_ms.push_back(backward);
    }
    return forward + backward;
  }
};

std::int64_t bytes_without_gradients() {
  return memory_use().now_bytes - memory_use(Category::gradients).now_bytes;
}

std::int64_t peak_without_gradients() {
  const auto at_peak = memory_at_peak();
  return std::accumulate(at_peak.begin(), at_peak.end(), std::int64_t{0}) -
         at_peak[static_cast<int>(Category::gradients)];
}

void measure_memory(ExpertVariant& variant, bool trains, Measurement& m) {
  variant.dx = variant.dw1 = variant.dw2 = variant.dw3 = Tensor();
  const std::int64_t before = bytes_without_gradients();
  reset_peak_memory();
  Tensor out = variant.forward(trains);
  m.kept_bytes = bytes_without_gradients() - before;
  m.peak_bytes = peak_without_gradients() - before;
  if (!trains) return;
  out = Tensor();  // as a model lets go of it once the next op has read it
  reset_peak_memory();
  variant.backward();
  m.backward_peak_bytes = peak_without_gradients() - before;
  m.peak_bytes = std::max(m.peak_bytes, m.backward_peak_bytes);
}

// Measures the variants of one size, and tells of each as soon as it is measured.
class RowMeasurement {
 public:
  RowMeasurement(const Sweep& sweep, double seconds, const SweepObserver& observer, SweepRow& row)
      : trains_(sweep.trains), seconds_(seconds), observer_(observer), row_(row) {}

  void measure() {
    if (observer_.on_begin) observer_.on_begin(row_);
    if (row_.point.model)
      measure_model_variants();
    else
      measure_layer_variants();
    if (observer_.on_end) observer_.on_end(row_);
  }

 private:
  void measure_layer_variants();
  void measure_model_variants();
  std::vector<TimedVariant> agreeing_variants(const ExpertInputs& inputs,
                                              const ExpertReference& reference);
  void time_in_turns(std::vector<TimedVariant>& variants);
  void refuse_for_memory(VariantKind kind);
  bool agrees(const Measurement& m);
  void add(const Measurement& m);

  bool trains_;
  double seconds_;
  const SweepObserver& observer_;
  SweepRow& row_;
};

// Whether a variant's results agree with the reference; else notes why it is not shown.
bool RowMeasurement::agrees(const Measurement& m) {
  constexpr double kAllowed = 0.03;  // of the largest value: a few roundings to bf16
  if (m.error <= kAllowed) return true;
  row_.refused.push_back(fmt::format("{}: its results differ by {:.1e} of the largest value",
                                     name_of(m.variant), m.error));
  return false;
}

void RowMeasurement::add(const Measurement& m) {
  row_.measurements.push_back(m);
  if (observer_.on_measurement) observer_.on_measurement(row_, m);
}

void RowMeasurement::refuse_for_memory(VariantKind kind) {
  row_.refused.push_back(fmt::format("{}: out of memory", name_of(kind)));
}

ExpertInputs inputs_of(const SweepPoint& point) {
  if (point.mode) return {point.shape, *point.mode};
  if (point.attention) return {point.shape, *point.attention};
  return ExpertInputs(point.shape, point.imbalance);
}

std::span<const VariantKind> variants_of(const SweepPoint& point) {
  if (point.mode) return kLinearVariants;
  if (point.attention) return kAttentionVariants;
  return kVariants;
}

void RowMeasurement::measure_layer_variants() {
  const SweepPoint& point = row_.point;
  try {
    const ExpertInputs inputs = inputs_of(point);
    const ExpertReference reference(inputs, trains_);
    std::vector<TimedVariant> variants = agreeing_variants(inputs, reference);
    time_in_turns(variants);
    for (TimedVariant& one : variants) {
      if (!one.variant) continue;
      one.measurement.forward_ms = median(std::move(one.forward_ms));
      one.measurement.backward_ms = median(std::move(one.backward_ms));
      add(one.measurement);
    }
    if (trains_ && !point.mode && !point.attention)
      row_.padded_gemm_ratio = padded_gemm_ratio(inputs);
  } catch (const OutOfMemory&) {
    row_.refused.emplace_back("all: out of memory for the inputs");
  }
}

std::vector<TimedVariant> RowMeasurement::agreeing_variants(const ExpertInputs& inputs,
                                                            const ExpertReference& reference) {
  std::vector<TimedVariant> variants;
  for (const VariantKind kind : variants_of(row_.point)) {
    if (!trains_ && kind == VariantKind::smoe_no_reuse) continue;
    try {
      TimedVariant one{.measurement = {.variant = kind}, .variant = make_variant(kind, inputs)};
      one.measurement.error = reference.error_of(kind, *one.variant, trains_);
      if (!agrees(one.measurement)) continue;
      measure_memory(*one.variant, trains_, one.measurement);
      drop_weight_gradients(*one.variant);
      variants.push_back(std::move(one));
    } catch (const OutOfMemory&) {
      refuse_for_memory(kind);
    }
  }
  return variants;
}

// The clock of a GPU falls under load, so the variants take turns. The first round warms up.
void RowMeasurement::time_in_turns(std::vector<TimedVariant>& variants) {
  const double wanted_ms = 1e3 * seconds_ * static_cast<double>(variants.size());
  double spent_ms = 0;
  for (int round = 0; round <= kMaxRuns && (round <= kMinRuns || spent_ms < wanted_ms); ++round)
    for (TimedVariant& one : variants) {
      if (!one.variant) continue;
      try {
        spent_ms += one.run(trains_, round > 0);
      } catch (const OutOfMemory&) {
        one.variant.reset();
        refuse_for_memory(one.measurement.variant);
      }
    }
}

void RowMeasurement::measure_model_variants() {
  std::vector<double> reference;
  for (const VariantKind kind : kModelVariants) {
    release_cached_memory();
    try {
      const Measurement m = measure_model(kind, row_.point, seconds_, reference);
      if (agrees(m)) add(m);
    } catch (const OutOfMemory&) {
      refuse_for_memory(kind);
    }
  }
}

}  // namespace

// A layer has three GEMMs per row of D inputs and F outputs, ParallelLinear one, a mixture of
// attention two, two per token for keys and values, and the causal half of two for the scores.
double SweepPoint::forward_flops() const {
  if (model)
    return flops_per_token(model->model, model->train.seq_len).forward() *
           static_cast<double>(shape.num_tokens);
  const double per_gemm = shape.forward_flops() / 3;
  if (mode) return per_gemm;
  if (!attention) return 3 * per_gemm;
  const kernels::AttentionShape heads = attention_shape(shape, *attention);
  const double scores = 2.0 * static_cast<double>(shape.num_tokens) *
                        static_cast<double>(heads.output_width()) *
                        static_cast<double>(heads.seq_len);
  return 2 * per_gemm + 2 * per_gemm / static_cast<double>(shape.top_k) + scores;
}

std::vector<std::string> sweep_names() {
  std::vector<std::string> names;
  for (const SweepSpec& spec : kSweeps) names.emplace_back(spec.name);
  return names;
}

Sweep make_sweep(const std::string& name, std::int64_t scale, DType dtype) {
  SMOE_CHECK(scale >= 1 && (scale & (scale - 1)) == 0, "bench: scale must be a power of two; got ",
             scale);
  for (const SweepSpec& spec : kSweeps)
    if (name == spec.name)
      return {spec.name, spec.meaning, spec.x_name, spec.trains, points_of(name, scale, dtype)};
  std::string known;
  for (const SweepSpec& spec : kSweeps) known += concat(known.empty() ? "" : ", ", spec.name);
  throw UsageError(concat("bench: unknown sweep '", name, "'; one of ", known));
}

std::string sweep_device() {
  const Device device = current_stream().device();
  return device.type == DeviceType::cuda
             ? gpu::name(device.index)
             : fmt::format("CPU, {} threads", kernels::cpu::num_threads());
}

SweepResult run_sweep(const Sweep& sweep, double seconds, const SweepObserver& observer) {
  SweepResult result{sweep, sweep_device(), {}};
  for (const SweepPoint& point : sweep.points) {
    SweepRow row{.point = point};
    RowMeasurement(sweep, seconds, observer, row).measure();
    release_cached_memory();
    result.rows.push_back(std::move(row));
  }
  return result;
}

std::optional<double> break_even(const SweepResult& result, VariantKind variant) {
  const auto ratio = [&](const SweepRow& row) -> std::optional<double> {
    double own = 0, other = 0;
    for (const Measurement& m : row.measurements) {
      if (m.variant == VariantKind::smoe) own = m.ms();
      if (m.variant == variant) other = m.ms();
    }
    if (own == 0 || other == 0) return std::nullopt;
    return std::log(other / own);
  };
  for (std::size_t i = 1; i < result.rows.size(); ++i) {
    const auto a = ratio(result.rows[i - 1]), b = ratio(result.rows[i]);
    if (!a || !b || *a == 0 || (*a > 0) == (*b > 0)) continue;
    const double share = *a / (*a - *b);
    const double x0 = result.rows[i - 1].point.x, x1 = result.rows[i].point.x;
    return x0 + share * (x1 - x0);
  }
  return std::nullopt;
}

}  // namespace smoe
