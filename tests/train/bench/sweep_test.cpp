#include "train/bench/sweep.h"

#include <doctest/doctest.h>

#include <nlohmann/json.hpp>

#include "tests/support/text.h"
#include "train/bench/bench_report.h"
#include "train/bench/expert_reference.h"
#include "train/bench/gathered_mlp.h"
#include "train/bench/model_variant.h"

using namespace smoe;
using namespace smoe::test;

namespace {

// Awkward sizes: no multiple of a tile, K that does not divide 128.
ExpertShape small_shape(std::int64_t top_k) {
  return {.num_tokens = 37,
          .d_model = 24,
          .d_expert = 40,
          .num_experts = 6,
          .top_k = top_k,
          .dtype = DType::f32};
}

const Measurement* measurement(const SweepRow& row, VariantKind kind) {
  for (const Measurement& m : row.measurements)
    if (m.variant == kind) return &m;
  return nullptr;
}

}  // namespace

TEST_CASE("all variants of a layer agree, with equal and unequal loads") {
  for (const std::int64_t top_k : {1, 3}) {
    for (const double imbalance : {1.0, 3.0}) {
      const ExpertInputs inputs(small_shape(top_k), imbalance);
      const ExpertReference reference(inputs, true);
      for (const VariantKind kind : kVariants) {
        CAPTURE(name_of(kind));
        CAPTURE(top_k);
        const auto variant = make_variant(kind, inputs);
        CHECK(reference.error_of(kind, *variant, true) < 1e-4);
        CHECK(reference.error_of(kind, *variant, false) < 1e-4);
      }
    }
  }
}

TEST_CASE("a variant with wrong results is noticed") {
  ExpertInputs inputs(small_shape(2));
  const ExpertReference reference(inputs, true);
  ExpertInputs other = inputs;
  other.w2 = inputs.w2.clone(Category::workspace);
  other.w2.fill_zero();
  const auto wrong = make_variant(VariantKind::smoe, other);
  CHECK(reference.error_of(VariantKind::smoe, *wrong, false) > 0.5);
}

TEST_CASE("a sweep measures time and memory; the reuse of buffers saves what it should") {
  Sweep sweep{.name = "small", .meaning = "a test", .x_name = "top_k", .points = {}};
  for (const std::int64_t k : {1, 2})
    sweep.points.push_back({static_cast<double>(k), small_shape(k)});
  const SweepResult result = run_sweep(sweep, 1e-3);
  REQUIRE(result.rows.size() == 2);
  for (const SweepRow& row : result.rows) {
    REQUIRE(row.refused.empty());
    REQUIRE(row.measurements.size() == std::size(kVariants));
    const ExpertShape& s = row.point.shape;
    const Measurement& own = *measurement(row, VariantKind::smoe);
    const Measurement& separate = *measurement(row, VariantKind::smoe_no_reuse);
    // For backward: pre-activations and the output.
    CHECK(own.kept_bytes == 4 * (s.num_rows() * 2 * s.d_expert + s.num_tokens * s.d_model));
    // The rows of dx, and dh beside h.
    CHECK(separate.backward_peak_bytes - own.backward_peak_bytes ==
          4 * s.num_rows() * (s.d_model + 2 * s.d_expert));
    CHECK(measurement(row, VariantKind::padded)->kept_bytes > own.kept_bytes);
    for (const Measurement& m : row.measurements) CHECK(m.ms() > 0);
  }
  CHECK(contains(bench_text(result), "reusing buffers in backward saves"));
  for (const SweepRow& row : result.rows) CHECK(row.padded_gemm_ratio > 0);
  CHECK(contains(bench_text(result), "x the time of dense GEMMs per expert"));
  CHECK(contains(bench_csv({result}), "small,top_k,2,37,24,40,6,2,f32,\"gather + pad\""));
  const auto json = nlohmann::json::parse(bench_json({result}));
  CHECK(json.at(0).at("rows").at(1).at("variants").at("smoe").at("kept_bytes") ==
        measurement(result.rows[1], VariantKind::smoe)->kept_bytes);
  const std::string page = bench_page({result});
  CHECK(contains(page, "Throughput"));
  CHECK(page.size() < 200'000);
}

TEST_CASE("ParallelLinear alone: variants agree in all layouts, and reuse saves its bytes") {
  const ExpertShape shape = small_shape(2);
  const Sweep sweep = make_sweep("parallel_linear", 32, DType::f32);
  REQUIRE(sweep.points.size() == 6 * 7);  // sizes times modes
  Sweep small = sweep;
  small.points.resize(7);
  for (SweepPoint& point : small.points) point.shape = shape;
  const SweepResult result = run_sweep(small, 1e-3);
  for (const SweepRow& row : result.rows) {
    const LinearMode& mode = *row.point.mode;
    CAPTURE(mode.text());
    REQUIRE(row.refused.empty());
    REQUIRE(row.measurements.size() == 4);
    for (const Measurement& m : row.measurements) CHECK(m.error < 1e-5);
    const Measurement& own = *measurement(row, VariantKind::smoe);
    const Measurement& separate = *measurement(row, VariantKind::smoe_no_reuse);
    const std::int64_t n = shape.num_rows(), d = shape.d_model, f = shape.d_expert;
    const std::int64_t x = (mode.is_per_token ? shape.num_tokens : n) * d;
    const std::int64_t y = (mode.has_gates ? shape.num_tokens : n) * f;
    // For backward: x and, with gates, the rows that they combine.
    CHECK(own.kept_bytes == 4 * (x + y + (mode.has_gates ? n * f : 0)));
    CHECK(separate.kept_bytes == own.kept_bytes);
    // dx is written over x and, with gates, dy over y. With one x per token the weight gradient's
    // workspace is the peak.
    if (!mode.is_per_token)
      CHECK(separate.backward_peak_bytes - own.backward_peak_bytes ==
            4 * (x + (mode.has_gates ? n * f : 0)));
  }
  CHECK(contains(bench_text(result), "scattered -> scattered"));
  CHECK(contains(bench_text(result), "of gather;"));
  CHECK(contains(bench_text(result), " x moe_mlp's GEMMs, forward "));
  CHECK(contains(bench_csv({result}), "tokens -> grouped\n"));
}

TEST_CASE("a mixture of attention: variants agree, and smoe keeps no grouped copies") {
  Sweep sweep = make_sweep("attention", 32, DType::f32);
  REQUIRE(sweep.points.size() == 5);
  sweep.points.clear();
  for (const std::int64_t k : {1, 3})  // 6 heads of 5 columns
    sweep.points.push_back({.x = static_cast<double>(k),
                            .shape = {.num_tokens = 36,
                                      .d_model = 24,
                                      .d_expert = 30 / k,
                                      .num_experts = 7,
                                      .top_k = k,
                                      .dtype = DType::f32},
                            .attention = AttentionMode{.num_sequences = 4, .num_heads = 6}});
  std::string text;
  const SweepObserver observer{
      .on_begin = [&](const SweepRow& row) { text += bench_row_head(sweep, row.point); },
      .on_measurement = [&](const SweepRow& row,
                            const Measurement& m) { text += bench_line(sweep, row, m); },
      .on_end = [&](const SweepRow& row) { text += bench_row_foot(row); }};
  const SweepResult result = run_sweep(sweep, 1e-3, observer);
  CHECK(bench_text(result) == bench_head(sweep, sweep_device()) + text + bench_foot(result));
  for (const SweepRow& row : result.rows) {
    const ExpertShape& s = row.point.shape;
    CAPTURE(s.top_k);
    REQUIRE(row.refused.empty());
    REQUIRE(row.measurements.size() == 3);
    for (const Measurement& m : row.measurements) CHECK(m.error < 1e-5);
    const std::int64_t t = s.num_tokens, n = s.num_rows(), d = s.d_model, f = s.d_expert;
    const Measurement& own = *measurement(row, VariantKind::smoe);
    const Measurement& copied = *measurement(row, VariantKind::copied);
    // Queries, keys and values, attention's output and one number per head, and the output; rows of
    // the output projection only where these are narrower than its input.
    const std::int64_t rows = f > d ? n * d : 0;
    CHECK(own.kept_bytes == 4 * (n * f + 2 * t * f + n * f + t * 6 + rows + t * d));
    CHECK(copied.kept_bytes - own.kept_bytes == 4 * (2 * n * d + n * f - rows));
    CHECK(copied.peak_bytes > own.peak_bytes);
  }
  CHECK(contains(bench_text(result), "6 heads on 4 sequences"));
  CHECK(contains(bench_text(result), " x group + scatter, forward "));
  CHECK(contains(bench_csv({result}), "\"group + scatter\""));
}

TEST_CASE("a padded plan has whole blocks of rows per expert, in which the plan's own come first") {
  for (const std::int64_t top_k : {1, 3}) {
    const ExpertInputs inputs(small_shape(top_k), 3.0);
    const RoutingPlan padded = padded_plan(inputs.plan, 16);
    CHECK(padded.num_rows() % top_k == 0);
    const auto own = inputs.plan.expert_offsets.to_vector<std::int32_t>();
    const auto offsets = padded.expert_offsets.to_vector<std::int32_t>();
    const auto own_ids = inputs.plan.sorted_scattered_ids.to_vector<std::int32_t>();
    const auto ids = padded.sorted_scattered_ids.to_vector<std::int32_t>();
    for (std::size_t e = 0; e + 1 < offsets.size(); ++e) {
      const int rows = own[e + 1] - own[e];
      CHECK((offsets[e + 1] - offsets[e]) % 16 == 0);
      CHECK(offsets[e + 1] - offsets[e] - rows < 16 + 16 * (top_k - 1));
      for (int i = 0; i < offsets[e + 1] - offsets[e]; ++i) {
        const std::int32_t id = ids[offsets[e] + i];
        if (i < rows)
          CHECK(id == own_ids[own[e] + i]);
        else
          CHECK(id >= inputs.plan.num_rows());
      }
    }
    const Tensor x = extended(inputs.x, padded);
    CHECK(x.dim(0) == padded.num_tokens);
    CHECK(x.to_vector<float>().back() == 0);
  }
}

TEST_CASE("the whole model trains the same with padded copies, which take more memory") {
  Sweep sweep = make_sweep("model", 64, DType::f32);
  REQUIRE(sweep.points.size() == 1);
  const SweepResult result = run_sweep(sweep, 1e-3);
  REQUIRE(result.rows.size() == 1);
  const SweepRow& row = result.rows[0];
  REQUIRE(row.refused.empty());
  REQUIRE(row.measurements.size() == 2);
  CHECK(row.measurements[0].error == 0);  // it is the reference
  CHECK(row.measurements[1].error < 1e-5);
  CHECK(measurement(row, VariantKind::padded)->peak_bytes >
        measurement(row, VariantKind::smoe)->peak_bytes);
  for (const Measurement& m : row.measurements) {
    CHECK(m.forward_ms > 0);
    CHECK(m.backward_ms > 0);
  }
  CHECK(contains(bench_text(result), "% tokens per second over gather + pad"));
  CHECK(contains(bench_text(result), "+38.1 %"));
}

TEST_CASE("wrong experts in the whole model are noticed") {
  const Sweep sweep = make_sweep("model", 64, DType::f32);
  SweepPoint other = sweep.points[0];
  std::vector<double> reference;
  measure_model(VariantKind::smoe, other, 1e-3, reference);
  other.model->model.top_k = 1;
  CHECK(measure_model(VariantKind::padded, other, 1e-3, reference).error > 1e-3);
}

TEST_CASE("the break-even lies between the sizes around it") {
  SweepResult result;
  result.sweep.x_name = "tokens";
  const auto row = [](double x, double own_ms, double other_ms) {
    SweepRow r{.point = {x, small_shape(1)}, .measurements = {}, .refused = {}};
    r.measurements.push_back({.variant = VariantKind::smoe, .forward_ms = own_ms});
    r.measurements.push_back({.variant = VariantKind::loop, .forward_ms = other_ms});
    return r;
  };
  result.rows = {row(10, 2, 1), row(20, 2, 4)};
  REQUIRE(break_even(result, VariantKind::loop));
  CHECK(*break_even(result, VariantKind::loop) == doctest::Approx(15));
  result.rows = {row(10, 1, 2), row(20, 2, 4)};
  CHECK(!break_even(result, VariantKind::loop));
  CHECK(!break_even(result, VariantKind::padded));
}

TEST_CASE("sweeps are known by name, and their scale is a power of two") {
  for (const std::string& name : sweep_names()) {
    const Sweep sweep = make_sweep(name, 32, DType::f32);
    CHECK(!sweep.points.empty());
    for (const SweepPoint& point : sweep.points)
      CHECK(point.shape.top_k <= point.shape.num_experts);
  }
  CHECK_THROWS_WITH_AS(make_sweep("layers", 1, DType::f32),
                       "bench: unknown sweep 'layers'; one of layer, granularity, sparsity, batch, "
                       "imbalance, inference, parallel_linear, attention, "
                       "model",
                       UsageError);
  CHECK_THROWS_AS(make_sweep("layer", 3, DType::f32), UsageError);
}
