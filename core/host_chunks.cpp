#include "core/host_chunks.h"

#include <algorithm>

namespace smoe {
namespace {

constexpr std::int64_t kChunkBytes = std::int64_t{32} << 20;

// Calls f(chunk of the tensor, host memory of its size, offset in bytes).
template <class F>
void for_chunks(const Tensor& tensor, F&& f) {
  const Stream host;
  const StreamGuard guard(host);
  const Tensor flat = tensor.reshape({tensor.numel()});
  const std::int64_t width = size_of(tensor.dtype());
  const std::int64_t max_numel = std::min(tensor.numel(), kChunkBytes / width);
  const Tensor memory = Tensor::empty({max_numel}, tensor.dtype(), Category::workspace);
  for (std::int64_t begin = 0; begin < tensor.numel(); begin += max_numel) {
    const std::int64_t end = std::min(begin + max_numel, tensor.numel());
    f(flat.rows(begin, end), memory.rows(0, end - begin), begin * width);
  }
}

}  // namespace

void for_each_host_chunk(
    const Tensor& tensor,
    const std::function<void(std::int64_t offset, const void* data, std::int64_t bytes)>& use) {
  if (tensor.device().type == DeviceType::cpu) {
    if (tensor.bytes() > 0) use(0, tensor.data(), tensor.bytes());
    return;
  }
  for_chunks(tensor, [&](const Tensor& chunk, const Tensor& memory, std::int64_t offset) {
    memory.copy_from(chunk);
    use(offset, memory.data(), memory.bytes());
  });
}

void fill_by_host_chunks(
    const Tensor& tensor,
    const std::function<void(std::int64_t offset, void* data, std::int64_t bytes)>& fill) {
  if (tensor.device().type == DeviceType::cpu) {
    if (tensor.bytes() > 0) fill(0, tensor.data(), tensor.bytes());
    return;
  }
  if (tensor.device().is_dry()) return;
  for_chunks(tensor, [&](const Tensor& chunk, const Tensor& memory, std::int64_t offset) {
    fill(offset, memory.data(), memory.bytes());
    chunk.copy_from(memory);
  });
}

}  // namespace smoe
