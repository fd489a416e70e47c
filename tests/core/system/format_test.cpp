#include "core/system/format.h"

#include <doctest/doctest.h>

using namespace smoe;

TEST_CASE("digits are grouped by three") {
  CHECK(grouped(0) == "0");
  CHECK(grouped(999) == "999");
  CHECK(grouped(1000) == "1,000");
  CHECK(grouped(-123456) == "-123,456");
  CHECK(grouped(1234567890) == "1,234,567,890");
  CHECK(counted(1, "token") == "1 token");
  CHECK(counted(0, "token") == "0 tokens");
  CHECK(counted(1200, "token") == "1,200 tokens");
}

TEST_CASE("a short count has three digits and a unit") {
  CHECK(short_count(0) == "0");
  CHECK(short_count(999) == "999");
  CHECK(short_count(999.6) == "1.00 k");
  CHECK(short_count(3'476'000) == "3.48 M");
  CHECK(short_count(12'340) == "12.3 k");
  CHECK(short_count(123'400) == "123 k");
  CHECK(short_count(999'600) == "1.00 M");
  CHECK(short_count(1.517e9) == "1.52 B");
  CHECK(short_count(5e15) == "5000 T");
  CHECK(short_flops(12) == "12 FLOP");
  CHECK(short_flops(1.496e10) == "15.0 GFLOP");
  CHECK(short_flops(9.75e23) == "975 ZFLOP");
}
