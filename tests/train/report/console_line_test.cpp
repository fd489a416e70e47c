#include "train/report/console_line.h"

#include <doctest/doctest.h>

#include <limits>

#include "core/system/format.h"

using namespace smoe;

namespace {

StepReport usual_step() {
  StepReport report;
  report.step = 120;
  report.steps = 2000;
  report.loss = 2.34561;
  report.lr = 3e-4;
  report.grad_norm = 0.8123;
  report.tokens_per_s = 12'345;
  report.step_s = 0.054;
  report.peak_bytes = 1'331'439'862;
  report.imbalance = 1.324;
  return report;
}

}  // namespace

TEST_CASE("the line of a step shows every column") {
  CHECK(console_line(usual_step()) ==
        "step  120/2000  loss  2.3456  lr 3.00e-04  norm 0.812   12.3k tok/s  1.24 GiB"
        "  imb  1.32  eta  1m42s");
}

TEST_CASE("MFU is shown if the peak is known") {
  StepReport report = usual_step();
  report.mfu = 0.3318;
  CHECK(console_line(report).find("12.3k tok/s  mfu 33.2 %  1.24 GiB") != std::string::npos);
}

TEST_CASE("the lines of all steps are equally wide") {
  const std::size_t width = console_line(usual_step()).size();
  StepReport report = usual_step();
  for (const std::int64_t step : {1, 9, 10, 999, 1000, 2000}) {
    report.step = step;
    CHECK(console_line(report).size() == width);
  }
  for (const double norm : {0.0, 1e-9, 0.001, 9.99949, 9.9996, 99.99, 99.996, 3e7, 1e-99}) {
    report.grad_norm = norm;
    CAPTURE(norm);
    CHECK(console_line(report).size() == width);
  }
  for (const double rate : {0.0, 5.0, 999.0, 1e3, 99'999.0, 999'900.0, 1e6, 5e7}) {
    report.tokens_per_s = rate;
    CAPTURE(rate);
    CHECK(console_line(report).size() == width);
  }
  for (const double seconds : {0.0, 0.001, 0.5, 3.0, 60.0, 5000.0, 40'000.0}) {
    report.step_s = seconds;
    report.step = 1000;
    CAPTURE(seconds);
    CHECK(console_line(report).size() == width);
  }
  for (const std::int64_t bytes : {std::int64_t{0}, std::int64_t{1023}, std::int64_t{1024},
                                   std::int64_t{1} << 30, (std::int64_t{1} << 40) - 1}) {
    report.peak_bytes = bytes;
    CAPTURE(bytes);
    CHECK(console_line(report).size() == width);
  }
}

TEST_CASE("problems are shown at the end of the line") {
  StepReport report = usual_step();
  report.loss = -std::numeric_limits<double>::quiet_NaN();
  report.grad_norm = std::numeric_limits<double>::infinity();
  report.dead_experts = 2;
  report.is_skipped = true;
  CHECK(console_line(report) ==
        "step  120/2000  loss     nan  lr 3.00e-04  norm   inf   12.3k tok/s  1.24 GiB"
        "  imb  1.32  eta  1m42s  dead 2  skipped: not finite");
}

TEST_CASE("only the terminal style has escape codes; without them the line is the same") {
  std::string line = console_line(usual_step(), LineStyle::terminal);
  CHECK(line.find("\x1b[2mloss\x1b[0m \x1b[1m 2.3456\x1b[0m") != std::string::npos);
  for (std::size_t at; (at = line.find('\x1b')) != std::string::npos;)
    line.erase(at, line.find('m', at) + 1 - at);
  CHECK(line == console_line(usual_step()));
}

TEST_CASE("a narrow terminal shows the most important columns completely") {
  const auto line = [](std::size_t width) {
    return console_line(usual_step(), LineStyle::plain, width);
  };
  const std::string whole = console_line(usual_step());
  CHECK(line(whole.size()) == whole);
  CHECK(
      line(whole.size() - 1) ==
      "step  120/2000  loss  2.3456  lr 3.00e-04  norm 0.812   12.3k tok/s  imb  1.32  eta  1m42s");
  CHECK(line(80) ==
        "step  120/2000  loss  2.3456  norm 0.812   12.3k tok/s  imb  1.32  eta  1m42s");
  CHECK(line(60) == "step  120/2000  loss  2.3456   12.3k tok/s  eta  1m42s");
  CHECK(line(40) == "step  120/2000  loss  2.3456");
  CHECK(line(1) == "step  120/2000  loss  2.3456");
  for (std::size_t width = 30; width < 120; ++width) CHECK(line(width).size() <= width);
  // Colors do not count as width.
  std::string colored = console_line(usual_step(), LineStyle::terminal, 80);
  for (std::size_t at; (at = colored.find('\x1b')) != std::string::npos;)
    colored.erase(at, colored.find('m', at) + 1 - at);
  CHECK(colored == line(80));
}

TEST_CASE("the line of a validation") {
  ValidationReport report;
  report.step = 200;
  report.steps = 2000;
  report.loss = 2.12345;
  report.bits_per_byte = 3.0635;
  report.seconds = 1.24;
  CHECK(console_line(report) ==
        "step  200/2000  validation loss 2.1235  bits per byte 3.0635  in 1.2s");
}

TEST_CASE("durations take at most six characters") {
  CHECK(format_duration(0) == "0.0s");
  CHECK(format_duration(9.94) == "9.9s");
  CHECK(format_duration(9.96) == "10s");
  CHECK(format_duration(59.6) == "1m00s");
  CHECK(format_duration(102) == "1m42s");
  CHECK(format_duration(3599.7) == "1h00m");
  CHECK(format_duration(3 * 3600 + 7 * 60) == "3h07m");
  CHECK(format_duration(12 * 86400.0 + 3 * 3600) == "12d03h");
  CHECK(format_duration(463 * 86400.0) == "463d");
  CHECK(format_duration(-1) == "?");
  CHECK(format_duration(1e300) == "?");
  CHECK(format_duration(std::numeric_limits<double>::quiet_NaN()) == "?");
}

TEST_CASE("bytes are shown with three digits and a binary unit") {
  CHECK(format_bytes(0) == "0 B");
  CHECK(format_bytes(1023) == "1023 B");
  CHECK(format_bytes(1024) == "1.00 KiB");
  CHECK(format_bytes(1'331'439'862) == "1.24 GiB");
  CHECK(format_bytes(std::int64_t{150} << 30) == "150 GiB");
  CHECK(format_bytes((std::int64_t{1} << 40) - 1) == "1.00 TiB");
}
