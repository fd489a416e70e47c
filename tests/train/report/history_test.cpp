#include "train/report/history.h"

#include <doctest/doctest.h>

#include <cmath>

using namespace smoe;

namespace {

StepReport history_step(std::int64_t step) {
  StepReport report;
  report.step = step;
  report.loss = static_cast<double>(step);
  report.elapsed_s = static_cast<double>(step);
  report.peak_bytes = 1000 + step % 7;
  report.memory_bytes = {1000, 0, 0, step % 7, 0};
  report.layers.resize(2);
  for (LayerReport& layer : report.layers) {
    layer.expert_rows = {step, 1, 0};
    layer.load = expert_load(layer.expert_rows);
  }
  return report;
}

RunHistory history_of(std::int64_t steps) {
  RunHistory history;
  for (std::int64_t step = 1; step <= steps; ++step) history.add(history_step(step));
  return history;
}

}  // namespace

TEST_CASE("few steps are kept one by one") {
  const RunHistory history = history_of(50);
  REQUIRE(history.steps().size() == 50);
  for (int i = 0; i < 50; ++i) CHECK(history.steps()[i].loss.mean() == i + 1);
}

TEST_CASE("the loads of very many experts are kept in fewer bins") {
  StepReport report;
  report.layers.resize(100);
  for (LayerReport& layer : report.layers) layer.expert_rows.assign(200, 1);
  RunHistory history;
  for (report.step = 1; report.step <= 300; ++report.step) history.add(report);
  CHECK(history.loads().size() <= 100);
  CHECK(history.loads().size() >= 50);
}

TEST_CASE("many steps are merged into few bins without losing any") {
  for (const std::int64_t steps : {500, 501, 1000, 1001, 100'000}) {
    const RunHistory history = history_of(steps);
    CAPTURE(steps);
    CHECK(history.steps().size() <= 500);
    CHECK(history.steps().size() >= 250);
    CHECK(history.loads().size() <= 500);
    double count = 0, next = 1;
    for (const StepBin& bin : history.steps()) {
      // Every bin starts where the previous one ended.
      CHECK(bin.loss.min == next);
      next = bin.loss.max + 1;
      count += static_cast<double>(bin.loss.count);
      CHECK(bin.loss.mean() == doctest::Approx((bin.loss.min + bin.loss.max) / 2));
      CHECK(bin.peak_bytes == bin.memory_bytes[0] + bin.memory_bytes[3]);
    }
    CHECK(count == steps);
    std::int64_t rows = 0;
    for (const LoadBin& bin : history.loads()) rows += bin.rows[1][0];
    CHECK(rows == steps * (steps + 1) / 2);
  }
}

TEST_CASE("bins ignore numbers that are not finite") {
  RunHistory history;
  StepReport report = history_step(1);
  report.loss = std::nan("");
  report.grad_norm = INFINITY;
  report.is_skipped = true;
  history.add(report);
  CHECK(history.steps()[0].loss.empty());
  CHECK(history.steps()[0].grad_norm.empty());
  CHECK(history.num_skipped() == 1);
}

TEST_CASE("training time is summed over the processes of a run") {
  RunHistory history;
  history.add(StartReport{.step = 0});
  history.add(history_step(10));
  history.add(StartReport{.step = 10});
  CHECK(history.trained_s() == 10);
  StepReport report = history_step(15);
  report.elapsed_s = 5;
  history.add(report);
  CHECK(history.trained_s() == 15);
  CHECK(history.restarts() == std::vector<std::int64_t>{10});
}

TEST_CASE("loads of another shape, which only an edited file contains, are ignored") {
  RunHistory history;
  history.add(history_step(1));
  StepReport other = history_step(2);
  other.layers.resize(1);
  history.add(other);
  CHECK(history.steps().size() == 2);
  CHECK(history.loads().size() == 1);
}
