#include "core/host_chunks.h"

#include <algorithm>

namespace smoe {
namespace {

constexpr std::int64_t kPieceBytes = std::int64_t{32} << 20;

// Calls f(piece of the tensor, memory on the host for it, offset in bytes).
template <class F>
void for_pieces(const Tensor& tensor, F&& f) {
  const Stream host;
  const StreamGuard guard(host);
  const Tensor flat = tensor.reshape({tensor.numel()});
  const std::int64_t width = size_of(tensor.dtype());
  const std::int64_t most = std::min(tensor.numel(), kPieceBytes / width);
  const Tensor memory = Tensor::empty({most}, tensor.dtype(), Category::workspace);
  for (std::int64_t begin = 0; begin < tensor.numel(); begin += most) {
    const std::int64_t end = std::min(begin + most, tensor.numel());
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
  for_pieces(tensor, [&](const Tensor& piece, const Tensor& memory, std::int64_t offset) {
    memory.copy_from(piece);
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
  if (tensor.device().type == DeviceType::dry) return;
  for_pieces(tensor, [&](const Tensor& piece, const Tensor& memory, std::int64_t offset) {
    fill(offset, memory.data(), memory.bytes());
    piece.copy_from(memory);
  });
}

}  // namespace smoe
