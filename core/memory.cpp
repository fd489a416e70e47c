#include "core/memory.h"

#include <array>
#include <cstdlib>
#include <cstring>
#include <mutex>
#include <unordered_map>
#include <vector>

#include "core/base/check.h"

namespace smoe {
namespace {

// A cache line, and the widest vector of any x86-64 CPU.
constexpr std::int64_t kAlignment = 64;

std::int64_t rounded(std::int64_t bytes) {
  return (bytes + kAlignment - 1) / kAlignment * kAlignment;
}

// Accounting and kept blocks of the host. Leaked on purpose: tensors with static lifetime may free
// after a static of ours would have been destroyed.
struct HostMemory {
  std::mutex mutex;
  std::array<MemoryUse, kNumCategories> by_category;
  MemoryUse total;
  std::unordered_map<std::int64_t, std::vector<void*>> kept;  // rounded bytes -> free blocks
  std::int64_t kept_bytes = 0;
  bool poison = false;

  static HostMemory& get() {
    static HostMemory& memory = *new HostMemory;
    return memory;
  }

  void count(Category category, std::int64_t bytes) {
    for (MemoryUse* use : {&by_category[static_cast<int>(category)], &total}) {
      use->now_bytes += bytes;
      if (use->now_bytes > use->peak_bytes) use->peak_bytes = use->now_bytes;
    }
  }

  void release_kept() {
    for (auto& [bytes, blocks] : kept)
      for (void* block : blocks) std::free(block);
    kept.clear();
    kept_bytes = 0;
  }

  // Sizes that never come back (a growing sequence in generation) must not pile up.
  void keep(void* block, std::int64_t bytes) {
    constexpr std::int64_t kAlwaysKept = std::int64_t{256} << 20;
    kept[bytes].push_back(block);
    kept_bytes += bytes;
    if (kept_bytes > kAlwaysKept && kept_bytes > total.peak_bytes) release_kept();
  }
};

}  // namespace

const char* name_of(Category category) {
  constexpr const char* kNames[kNumCategories] = {"parameters", "gradients", "optimizer",
                                                  "activations", "workspace"};
  return kNames[static_cast<int>(category)];
}

MemoryUse memory_use(Category category) {
  HostMemory& host = HostMemory::get();
  const std::lock_guard lock(host.mutex);
  return host.by_category[static_cast<int>(category)];
}

MemoryUse memory_use() {
  HostMemory& host = HostMemory::get();
  const std::lock_guard lock(host.mutex);
  return host.total;
}

void reset_peak_memory() {
  HostMemory& host = HostMemory::get();
  const std::lock_guard lock(host.mutex);
  for (MemoryUse& use : host.by_category) use.peak_bytes = use.now_bytes;
  host.total.peak_bytes = host.total.now_bytes;
}

void release_cached_memory() {
  HostMemory& host = HostMemory::get();
  const std::lock_guard lock(host.mutex);
  host.release_kept();
}

void set_poison_new_memory(bool on) {
  HostMemory& host = HostMemory::get();
  const std::lock_guard lock(host.mutex);
  host.poison = on;
}

Storage::Storage(std::int64_t bytes, Category category, Device device)
    : bytes_(bytes), category_(category), device_(device) {
  SMOE_INTERNAL_CHECK(device.type == DeviceType::cpu, "memory: no CUDA backend in this build");
  if (bytes == 0) return;
  HostMemory& host = HostMemory::get();
  const std::lock_guard lock(host.mutex);
  auto& blocks = host.kept[rounded(bytes)];
  if (!blocks.empty()) {
    data_ = blocks.back();
    blocks.pop_back();
    host.kept_bytes -= rounded(bytes);
  } else {
    data_ = std::aligned_alloc(kAlignment, rounded(bytes));
    if (!data_) {
      host.release_kept();
      data_ = std::aligned_alloc(kAlignment, rounded(bytes));
    }
    if (!data_)
      throw SystemError(concat("memory: no room for ", bytes, " bytes of ", name_of(category),
                               "; tensors hold ", host.total.now_bytes, " bytes"));
  }
  if (host.poison) std::memset(data_, 0xFF, bytes);
  host.count(category, bytes);
}

Storage::~Storage() {
  if (!data_) return;
  HostMemory& host = HostMemory::get();
  const std::lock_guard lock(host.mutex);
  host.count(category_, -bytes_);
  host.keep(data_, rounded(bytes_));
}

}  // namespace smoe
