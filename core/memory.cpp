#include "core/memory.h"

#include <sys/mman.h>

#include <algorithm>
#include <array>
#include <cstdlib>
#include <cstring>
#include <map>
#include <mutex>
#include <unordered_map>
#include <vector>

#include "core/base/check.h"
#include "core/base/clock.h"
#include "core/gpu.h"
#include "core/memory_log.h"

namespace smoe {
namespace {

// Memory that tensors hold on one device.
struct Uses {
  std::array<MemoryUse, kNumCategories> by_category;
  MemoryUse total;
  std::array<std::int64_t, kNumCategories>
      at_peak{};  // by category, when the total was at its peak

  void count(Category category, std::int64_t bytes) {
    MemoryUse& own = by_category[static_cast<int>(category)];
    own.now_bytes += bytes;
    total.now_bytes += bytes;
    own.peak_bytes = std::max(own.peak_bytes, own.now_bytes);
    if (total.now_bytes <= total.peak_bytes) return;
    total.peak_bytes = total.now_bytes;
    record_peak();
  }

  void record_peak() {
    for (int c = 0; c < kNumCategories; ++c) at_peak[c] = by_category[c].now_bytes;
  }

  // "activations 12 bytes, parameters 7 bytes": nonzero categories in descending order.
  std::string to_string() const {
    std::array<int, kNumCategories> order;
    for (int i = 0; i < kNumCategories; ++i) order[i] = i;
    std::stable_sort(order.begin(), order.end(), [&](int a, int b) {
      return by_category[a].now_bytes > by_category[b].now_bytes;
    });
    std::string text;
    for (const int i : order)
      if (by_category[i].now_bytes > 0)
        text += concat(text.empty() ? "" : ", ", name_of(static_cast<Category>(i)), " ",
                       by_category[i].now_bytes, " bytes");
    return text.empty() ? "nothing" : text;
  }
};

// Cache of free host blocks. For GPUs, the CUDA memory pool does this.
class HostBlockCache {
 public:
  // Null when out of memory.
  void* take(std::int64_t bytes) {
    auto& blocks = free_blocks_[rounded(bytes)];
    if (!blocks.empty()) {
      void* data = blocks.back();
      blocks.pop_back();
      cached_bytes_ -= rounded(bytes);
      return data;
    }
    void* data = std::aligned_alloc(kAlignment, rounded(bytes));
    if (data) return data;
    release();
    return std::aligned_alloc(kAlignment, rounded(bytes));
  }

  // Blocks of sizes that never recur (a growing sequence in generation) must not accumulate.
  void keep(void* block, std::int64_t bytes, std::int64_t peak_bytes) {
    constexpr std::int64_t kMinCacheLimit = std::int64_t{256} << 20;
    free_blocks_[rounded(bytes)].push_back(block);
    cached_bytes_ += rounded(bytes);
    if (cached_bytes_ > kMinCacheLimit && cached_bytes_ > peak_bytes) release();
  }

  void release() {
    for (auto& [bytes, blocks] : free_blocks_)
      for (void* block : blocks) std::free(block);
    free_blocks_.clear();
    cached_bytes_ = 0;
  }

 private:
  // A cache line, and the widest vector register of x86-64 CPUs.
  static constexpr std::int64_t kAlignment = 64;

  static std::int64_t rounded(std::int64_t bytes) {
    return (bytes + kAlignment - 1) / kAlignment * kAlignment;
  }

  std::unordered_map<std::int64_t, std::vector<void*>>
      free_blocks_;  // rounded bytes -> free blocks
  std::int64_t cached_bytes_ = 0;
};

// Intentionally leaked: tensors with static lifetime may be freed after static destructors have
// run.
struct Memory {
  std::mutex mutex;
  std::map<std::pair<DeviceType, int>, Uses> uses;
  HostBlockCache host;
  bool poison = false;

  static Memory& get() {
    static Memory& memory = *new Memory;
    return memory;
  }

  Uses& uses_of(Device device) { return uses[{device.type, device.index}]; }
};

// Address space for a dry run, which can be neither read nor written. Null when exhausted.
void* reserve_addresses(std::int64_t bytes) {
  void* const data =
      ::mmap(nullptr, bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  return data == MAP_FAILED ? nullptr : data;
}

// Weights and gradients, which other ranks of the host write into.
bool is_sharable(std::int64_t bytes, Category category) {
  constexpr std::int64_t kMinBytes = std::int64_t{2} << 20;
  return bytes >= kMinBytes &&
         (category == Category::parameters || category == Category::gradients);
}

// What allocates and frees memory of a GPU may wait for the device, and so for work that another
// thread has yet to queue: not while holding the mutex.
bool is_on_gpu(const Stream& stream) {
  return stream.device().type == DeviceType::cuda;
}

void* allocate(Memory& memory, std::int64_t bytes, Category category, const Stream& stream) {
  switch (stream.device().type) {
    case DeviceType::cpu:
      return memory.host.take(bytes);
    case DeviceType::cuda:
      if (is_sharable(bytes, category)) return gpu::allocate_sharable(bytes, stream.device().index);
      return gpu::allocate(bytes, stream.device().index, stream.launch().stream);
    case DeviceType::dry_cpu:
    case DeviceType::dry_cuda:
      return reserve_addresses(bytes);
  }
  return nullptr;
}

void poison(void* data, std::int64_t bytes, const Stream& stream) {
  if (stream.device().type == DeviceType::cpu)
    std::memset(data, 0xFF, bytes);
  else if (stream.device().type == DeviceType::cuda)
    gpu::memset_async(data, 0xFF, bytes, stream.launch().stream);
}

[[noreturn]] void throw_out_of_memory(std::int64_t bytes, Category category, Device device,
                                      const Uses& uses) {
  std::string available;
  if (device.type == DeviceType::cuda) {
    const gpu::MemoryInfo info = gpu::memory_info(device.index);
    available = concat(", where ", info.free_bytes, " of ", info.total_bytes, " bytes are free");
  }
  throw OutOfMemory(
      concat("memory: out of memory: cannot allocate ", bytes, " bytes of ", name_of(category),
             " on ", to_string(device), available, "; tensors hold ", uses.to_string()),
      bytes, now_ns());
}

}  // namespace

const char* name_of(Category category) {
  constexpr const char* kNames[kNumCategories] = {"parameters", "gradients", "optimizer",
                                                  "activations", "workspace"};
  return kNames[static_cast<int>(category)];
}

MemoryUse memory_use(Category category) {
  Memory& memory = Memory::get();
  const std::lock_guard lock(memory.mutex);
  return memory.uses_of(current_stream().device()).by_category[static_cast<int>(category)];
}

MemoryUse memory_use() {
  Memory& memory = Memory::get();
  const std::lock_guard lock(memory.mutex);
  return memory.uses_of(current_stream().device()).total;
}

std::array<std::int64_t, kNumCategories> memory_at_peak() {
  Memory& memory = Memory::get();
  const std::lock_guard lock(memory.mutex);
  return memory.uses_of(current_stream().device()).at_peak;
}

void reset_peak_memory() {
  Memory& memory = Memory::get();
  const std::lock_guard lock(memory.mutex);
  Uses& uses = memory.uses_of(current_stream().device());
  for (MemoryUse& use : uses.by_category) use.peak_bytes = use.now_bytes;
  uses.total.peak_bytes = uses.total.now_bytes;
  uses.record_peak();
}

void release_cached_memory() {
  Memory& memory = Memory::get();
  const std::lock_guard lock(memory.mutex);
  const Stream& stream = current_stream();
  if (stream.device().type == DeviceType::cpu) memory.host.release();
  if (stream.device().type == DeviceType::cuda) {
    stream.synchronize();
    gpu::trim_pool(stream.device().index);
  }
}

void set_poison_new_memory(bool on) {
  Memory& memory = Memory::get();
  const std::lock_guard lock(memory.mutex);
  memory.poison = on;
}

Storage::Storage(std::int64_t bytes, Category category, const Stream& stream)
    : bytes_(bytes), category_(category), stream_(stream) {
  if (bytes == 0) return;
  Memory& memory = Memory::get();
  std::unique_lock lock(memory.mutex, std::defer_lock);
  if (!is_on_gpu(stream)) lock.lock();
  data_ = allocate(memory, bytes, category, stream);
  if (is_on_gpu(stream)) lock.lock();
  Uses& uses = memory.uses_of(stream.device());
  if (!data_) throw_out_of_memory(bytes, category, stream.device(), uses);
  uses.count(category, bytes);
  log_allocation(data_, bytes, category, stream.device());
  if (memory.poison) poison(data_, bytes, stream);
}

Storage::~Storage() {
  if (!data_) return;
  Memory& memory = Memory::get();
  std::unique_lock lock(memory.mutex);
  Uses& uses = memory.uses_of(device());
  uses.count(category_, -bytes_);
  log_free(data_);
  switch (device().type) {
    case DeviceType::cpu:
      memory.host.keep(data_, bytes_, uses.total.peak_bytes);
      break;
    case DeviceType::cuda:
      lock.unlock();
      if (is_sharable(bytes_, category_))
        gpu::release_sharable(data_);
      else
        gpu::release(data_, stream_.launch().stream);
      break;
    case DeviceType::dry_cpu:
    case DeviceType::dry_cuda:
      ::munmap(data_, bytes_);
  }
}

}  // namespace smoe
