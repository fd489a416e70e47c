#include <doctest/doctest.h>

#include "core/base/check.h"
#include "core/device.h"
#include "core/host_chunks.h"
#include "core/tensor.h"
#include "tests/support/counts.h"

using namespace smoe;

TEST_CASE("a dry run counts memory without allocating it") {
  const Stream stream(Device{DeviceType::dry_cpu, 0});
  const StreamGuard guard(stream);
  CHECK(to_string(current_stream().device()) == "dry run");
  // 4 TiB exceeds the memory of any test machine. ThreadSanitizer lacks the address space.
  const std::int64_t bytes = std::int64_t{4} << (test::kIsSanitized ? 30 : 40);
  const std::int64_t before = memory_use().now_bytes;
  {
    const Tensor huge = Tensor::zeros({bytes / 4}, DType::f32, Category::optimizer);
    CHECK(memory_use().now_bytes - before == bytes);
    CHECK(memory_use(Category::optimizer).now_bytes == bytes);
    CHECK(huge.data() != nullptr);
    CHECK(huge.rows(1, 2).data() != huge.data());
    const Tensor copy = huge.clone(Category::workspace);
    CHECK(memory_use().now_bytes - before == 2 * bytes);
    release_cached_memory();
  }
  CHECK(memory_use().now_bytes == before);
  CHECK(memory_use().peak_bytes - before == 2 * bytes);
}

TEST_CASE("a dry run accepts values but holds none") {
  const Stream stream(Device{DeviceType::dry_cpu, 0});
  const StreamGuard guard(stream);
  set_poison_new_memory(true);
  const Tensor x = Tensor::from(std::vector<float>{1, 2, 3}, {3});
  set_poison_new_memory(false);
  fill_by_host_chunks(x, [](std::int64_t, void*, std::int64_t) { FAIL("nothing may be written"); });
  CHECK_THROWS_WITH_AS(x.to_vector<float>(), "tensor: a dry run computes no values to read",
                       UsageError);
  CHECK_THROWS_AS(x.rows(0, 1).item(), UsageError);
}
