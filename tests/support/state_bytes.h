// All bytes that a visit_state visits, for comparison.
#pragma once
#include <string>

#include "core/host_chunks.h"
#include "core/state.h"

namespace smoe::test {

/// The bytes of all tensors, on any device, and numbers that `holder.visit_state` visits, in order.
template <class Holder>
std::string state_of(Holder& holder) {
  struct Collect final : StateVisitor {
    std::string bytes;
    void put(const void* data, std::int64_t size) {
      bytes.append(static_cast<const char*>(data), static_cast<std::size_t>(size));
    }
    void tensor(std::string_view, Tensor& value) override {
      for_each_host_chunk(
          value, [&](std::int64_t, const void* data, std::int64_t size) { put(data, size); });
    }
    void integer(std::string_view, std::int64_t& value) override { put(&value, sizeof value); }
    void real(std::string_view, double& value) override { put(&value, sizeof value); }
  } collect;
  holder.visit_state(collect);
  return collect.bytes;
}

}  // namespace smoe::test
