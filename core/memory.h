// Tensor memory: the only place that allocates it, with accounting by device and category. Freed
// blocks are cached, since every training step allocates the same sizes; the accounting counts the
// bytes that tensors hold and excludes the cache.
#pragma once
#include <array>
#include <cstdint>

#include "core/base/check.h"
#include "core/device.h"

namespace smoe {

/// The device has too little memory for a block.
struct OutOfMemory : SystemError {
  OutOfMemory(const std::string& message, std::int64_t bytes, std::int64_t time_ns)
      : SystemError(message), bytes(bytes), time_ns(time_ns) {}

  std::int64_t bytes;    ///< of the block
  std::int64_t time_ns;  ///< of the steady clock, to find the moment in the memory log
};

/// What a block of memory is for.
enum class Category : std::uint8_t { parameters, gradients, optimizer, activations, workspace };
inline constexpr int kNumCategories = 5;

/// "parameters", "gradients", ...
const char* name_of(Category category);

struct MemoryUse {
  std::int64_t now_bytes = 0;
  std::int64_t peak_bytes = 0;
};

/// Bytes that tensors of one category hold now, and their peak since the last reset, on the current
/// stream's device, as for all functions below.
MemoryUse memory_use(Category category);
/// Total over all categories; its peak is the peak of the total, not the total of the peaks.
MemoryUse memory_use();
/// Bytes of each category when the total was at its peak; indexed by Category.
std::array<std::int64_t, kNumCategories> memory_at_peak();
/// Resets each peak, and that of the total, to the current use.
void reset_peak_memory();
/// Returns cached blocks to the system.
void release_cached_memory();

/// While on, new blocks are filled with 0xFF bytes, NaN in every floating-point type, which exposes
/// kernels that read an element before it is written or leave one unwritten. For tests.
void set_poison_new_memory(bool on);

/// A block of memory, shared by the tensors that view it. Not copyable. On a GPU it is
/// stream-ordered: work on its stream may use it from construction to destruction; work on another
/// stream must be ordered after the first and before the second by events.
class Storage {
 public:
  /// Throws: OutOfMemory, which names bytes, category, free bytes and uses.
  Storage(std::int64_t bytes, Category category, const Stream& stream);
  ~Storage();
  Storage(const Storage&) = delete;
  Storage& operator=(const Storage&) = delete;

  void* data() const { return data_; }
  std::int64_t bytes() const { return bytes_; }
  Category category() const { return category_; }
  Device device() const { return stream_.device(); }
  /// The stream on which it is allocated and freed.
  const Stream& stream() const { return stream_; }

 private:
  void* data_ = nullptr;
  std::int64_t bytes_;
  Category category_;
  Stream stream_;
};

}  // namespace smoe
