#include "kernels/digest.h"

#include <doctest/doctest.h>

#include "tests/kernels/digest_cases.h"
#include "tests/support/cuda.h"

using namespace smoe;
using namespace smoe::test;

TEST_CASE("the GPU's digest is the CPU's") {
  for (const std::int64_t bytes : kDigestSizes) {
    CAPTURE(bytes);
    const std::int64_t wanted = digest_case(bytes);
    const StreamGuard guard(gpu_stream());
    CHECK(digest_case(bytes) == wanted);
  }
}
