// The bytes of tensors as files and digests want them: on the host, in order. A tensor on a GPU
// comes and goes in pieces of bounded size, so that no second copy of it ever exists.
#pragma once
#include <cstdint>
#include <functional>

#include "core/tensor.h"

namespace smoe {

/// Calls use(offset, data, bytes) for the bytes of `tensor`, piece after piece; offset is the first
/// byte's within the tensor. A tensor on the host is one piece: itself. Waits for the device.
void for_each_host_chunk(
    const Tensor& tensor,
    const std::function<void(std::int64_t offset, const void* data, std::int64_t bytes)>& use);

/// Calls fill(offset, data, bytes), which writes `data`, for the bytes of `tensor`, piece after
/// piece; they become the tensor's. That of a dry run takes none.
void fill_by_host_chunks(
    const Tensor& tensor,
    const std::function<void(std::int64_t offset, void* data, std::int64_t bytes)>& fill);

}  // namespace smoe
