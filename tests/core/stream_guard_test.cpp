#include <doctest/doctest.h>

#include "core/device.h"

using namespace smoe;

TEST_CASE("a stream guard sets the kernel policy of launches in its scope") {
  CHECK(launch().policy == KernelPolicy{});
  const Stream dry({DeviceType::dry_cpu, 0});
  {
    const KernelPolicy policy{.experts = ExpertKernels::portable, .deterministic = false};
    const StreamGuard guard(current_stream(), policy);
    CHECK(launch().policy == policy);
    {
      const StreamGuard inner(dry);  // another stream, the same policy
      CHECK(launch().device.type == DeviceType::dry_cpu);
      CHECK(launch().policy == policy);
      const StreamGuard with_default(dry, {});
      CHECK(launch().policy == KernelPolicy{});
    }
    CHECK(launch().policy == policy);
    CHECK(launch().device.type == DeviceType::cpu);
  }
  CHECK(launch().policy == KernelPolicy{});
}
