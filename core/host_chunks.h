// Access to a tensor's bytes on the host, in order, for files and digests. A tensor on a GPU is
// transferred in chunks of bounded size, so that no second full copy exists.
#pragma once
#include <cstdint>
#include <functional>

#include "core/tensor.h"

namespace smoe {

/// Calls use(offset, data, bytes) for consecutive chunks of the bytes of `tensor`, where offset is
/// that of the chunk within the tensor. A tensor on the host is one chunk, not copied. Waits for
/// the device.
void for_each_host_chunk(
    const Tensor& tensor,
    const std::function<void(std::int64_t offset, const void* data, std::int64_t bytes)>& use);

/// Calls fill(offset, data, bytes), which writes `data`, for consecutive chunks, and stores them in
/// `tensor`. Does nothing for a tensor of a dry run.
void fill_by_host_chunks(
    const Tensor& tensor,
    const std::function<void(std::int64_t offset, void* data, std::int64_t bytes)>& fill);

}  // namespace smoe
