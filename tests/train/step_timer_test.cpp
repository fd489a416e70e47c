#include "train/step_timer.h"

#include <doctest/doctest.h>

#include "tests/support/model_cases.h"

using namespace smoe;

TEST_CASE("times and throughput are means over the steps since the last report") {
  Config config;
  config.model = test::small_model_config();
  config.train.global_batch = 6;
  config.train.seq_len = 100;
  StepTimer timer(config, 2);
  timer.add(1);
  timer.add(3);
  StepReport report;
  timer.report_to(report);
  CHECK(report.step_s == 2);
  CHECK(report.elapsed_s == 4);
  CHECK(report.tokens_per_s == 300);
  CHECK(report.mfu == 0);  // the peak of a CPU is unknown
  timer.add(0.5);
  timer.report_to(report);
  CHECK(report.step_s == 0.5);
  CHECK(report.elapsed_s == 4.5);
  CHECK(report.tokens_per_s == 1200);
  CHECK(report.data_share == 0);
  timer.add(0.25);
  timer.add_finishing(0.25);
  timer.report_to(report);
  CHECK(report.step_s == 0.5);
  CHECK(report.elapsed_s == 5);
}

TEST_CASE("shares of data, communication and saving are of all time but validations") {
  Config config;
  config.model = test::small_model_config();
  StepTimer timer(config, 1);
  timer.add(1, {.data_s = 0.5, .communication_s = 0.25});
  timer.add(2, {.data_s = 0.5, .communication_s = 0});
  timer.add_save(1);
  StepReport report;
  timer.report_to(report);
  CHECK(report.data_share == 0.25);
  CHECK(report.communication_share == 0.0625);
  CHECK(report.save_share == 0.25);
  timer.add(1, {.communication_s = 0.25});
  timer.add_comparison(1);
  timer.report_to(report);
  CHECK(report.communication_share == 0.625);
  CHECK(report.save_share == 0);
  CHECK(report.step_s == 1);  // comparisons, as saves, are between steps
}
