// All bytes that a visit_state visits, for comparison.
#pragma once
#include <cstring>
#include <map>
#include <string>

#include "core/host_chunks.h"
#include "core/state.h"

namespace smoe::test {

/// The bytes of all tensors, on any device, and numbers that `holder.visit_state` visits, in order;
/// zeros for elements that other ranks hold.
template <class Holder>
std::string state_of(Holder& holder) {
  struct Collect final : StateVisitor {
    std::string bytes;
    std::map<std::string, std::size_t, std::less<>> ranges;  // place of each tensor
    void put(const void* data, std::int64_t size) {
      bytes.append(static_cast<const char*>(data), static_cast<std::size_t>(size));
    }
    void tensor(std::string_view, Tensor& value) override {
      for_each_host_chunk(
          value, [&](std::int64_t, const void* data, std::int64_t size) { put(data, size); });
    }
    void range(std::string_view name, const Shape& shape, std::int64_t begin,
               Tensor& elements) override {
      const auto width = static_cast<std::size_t>(size_of(elements.dtype()));
      const auto [place, is_new] = ranges.emplace(name, bytes.size());
      if (is_new) bytes.resize(bytes.size() + shape.numel() * width, '\0');
      for_each_host_chunk(elements, [&](std::int64_t offset, const void* data, std::int64_t size) {
        std::memcpy(bytes.data() + place->second + begin * width + offset, data, size);
      });
    }
    void integer(std::string_view, std::int64_t& value) override { put(&value, sizeof value); }
    void real(std::string_view, double& value) override { put(&value, sizeof value); }
  } collect;
  holder.visit_state(collect);
  return collect.bytes;
}

}  // namespace smoe::test
