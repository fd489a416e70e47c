// Memory of tensors: the one place that allocates, and the accounting of it by category.
// Freed blocks are kept for requests of the same size, since a training step asks for the same
// sizes over and over; the accounting counts what tensors hold, to the byte, and not what is kept.
#pragma once
#include <cstdint>

#include "core/base/launch.h"

namespace smoe {

/// What a block of memory is for.
enum class Category : std::uint8_t { parameters, gradients, optimizer, activations, workspace };
inline constexpr int kNumCategories = 5;

/// "parameters", "gradients", ...
const char* name_of(Category category);

struct MemoryUse {
  std::int64_t now_bytes = 0;
  std::int64_t peak_bytes = 0;
};

/// Bytes held by tensors of one category now, and at most since the last reset.
MemoryUse memory_use(Category category);
/// The same over all categories; its peak is the peak of the sum, not the sum of the peaks.
MemoryUse memory_use();
/// Makes the present use the peak, for every category and the sum.
void reset_peak_memory();
/// Gives blocks kept for reuse back to the system.
void release_cached_memory();

/// While on, new blocks are filled with 0xFF bytes, a NaN in every floating type, so that a kernel
/// that leaves an element unwritten or reads one too early is seen. For tests.
void set_poison_new_memory(bool on);

/// A block of memory, shared by the tensors that view it. Not copyable.
class Storage {
 public:
  /// Throws: SystemError when the system has no memory left; names bytes, category and uses.
  Storage(std::int64_t bytes, Category category, Device device);
  ~Storage();
  Storage(const Storage&) = delete;
  Storage& operator=(const Storage&) = delete;

  void* data() const { return data_; }
  std::int64_t bytes() const { return bytes_; }
  Category category() const { return category_; }
  Device device() const { return device_; }

 private:
  void* data_ = nullptr;
  std::int64_t bytes_;
  Category category_;
  Device device_;
};

}  // namespace smoe
