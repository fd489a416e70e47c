#include "train/report/axis.h"

#include <doctest/doctest.h>

using namespace smoe;

namespace {

// "0 2.5 5": the labels of the ticks.
std::string labels(const Axis& axis) {
  std::string text;
  for (const Tick& tick : axis.ticks) text += (text.empty() ? "" : " ") + tick.label;
  return text;
}

}  // namespace

TEST_CASE("an axis of values starts and ends at round ticks") {
  CHECK(labels(axis_around(2.31, 5.56, 5)) == "2 3 4 5 6");
  CHECK(labels(axis_around(0, 1, 5)) == "0 0.2 0.4 0.6 0.8 1.0");
  CHECK(labels(axis_around(0, 0.003, 5)) == "0 1e-3 2e-3 3e-3");
  CHECK(labels(axis_around(0, 43'210, 5)) == "0 10k 20k 30k 40k 50k");
  CHECK(labels(axis_around(0, 1'900, 5)) == "0 500 1000 1500 2000");
  CHECK(labels(axis_around(-3, 3, 5)) == "-4 -2 0 2 4");
  CHECK(labels(axis_around(1e9, 1.3e9, 5)) == "1.0B 1.1B 1.2B 1.3B");
  const Axis axis = axis_around(2.31, 5.56, 5);
  CHECK(axis.position_of(2) == 0);
  CHECK(axis.position_of(4) == 0.5);
  CHECK(axis.position_of(9) == 1);
}

TEST_CASE("a constant value has a valid axis") {
  CHECK(labels(axis_around(0, 0, 5)) == "0 0.2 0.4 0.6 0.8 1.0");
  const Axis axis = axis_around(8, 8, 5);
  CHECK(axis.low < 8);
  CHECK(axis.high > 8);
  CHECK(axis.ticks.size() >= 2);
}

TEST_CASE("ticks of bytes are at multiples of powers of two") {
  CHECK(labels(axis_around(0, 125.0 * (1 << 20), 5, Unit::bytes)) ==
        "0 B 32 MiB 64 MiB 96 MiB 128 MiB");
  CHECK(labels(axis_around(0, 5.0 * (1 << 30), 5, Unit::bytes)) ==
        "0 B 1 GiB 2 GiB 3 GiB 4 GiB 5 GiB");
}

TEST_CASE("an axis of steps ends at the last step and has integer ticks") {
  CHECK(labels(axis_from(0, 113, 5, true)) == "0 50 100");
  CHECK(labels(axis_from(0, 3, 5, true)) == "0 1 2 3");
  CHECK(labels(axis_from(0, 100'000, 5, true)) == "0 20k 40k 60k 80k 100k");
  CHECK(axis_from(0, 113, 5, true).position_of(113) == 1);
}

TEST_CASE("a logarithmic axis has powers of ten, also times 2 and 5 if it is short") {
  CHECK(labels(log_axis_around(0.3, 40)) == "0.2 0.5 1 2 5 10 20 50");
  CHECK(labels(log_axis_around(1e-4, 1e4)) == "1e-4 0.01 1 100 10k");
  CHECK(labels(log_axis_around(1, 1)) == "1 2");
  const Axis axis = log_axis_around(1, 100);
  CHECK(axis.position_of(10) == doctest::Approx(0.5));
}

TEST_CASE("numbers are short") {
  CHECK(short_number(0) == "0");
  CHECK(short_number(2.34561) == "2.346");
  CHECK(short_number(8'412) == "8412");
  CHECK(short_number(12'345) == "12.35k");
  CHECK(short_number(3'479'000) == "3.479M");
  CHECK(short_number(0.0003) == "3e-4");
  CHECK(short_number(1.234e-5) == "1.23e-5");
}
