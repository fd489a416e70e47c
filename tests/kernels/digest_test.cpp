#include <doctest/doctest.h>

#include <set>

#include "tests/kernels/digest_cases.h"

using namespace smoe;
using namespace smoe::test;

TEST_CASE("a digest changes with each byte, with the size and with the place of a word") {
  std::set<std::int64_t> digests;
  for (const std::int64_t bytes : {1, 3, 4, 5, 64}) {
    digests.insert(digest_case(bytes));
    for (std::int64_t i = 0; i < bytes; ++i) digests.insert(digest_case(bytes, i));
  }
  CHECK(digests.size() == 5 + 1 + 3 + 4 + 5 + 64);
  CHECK(digest_case(0) == 0);
}
