// The functions of the CUDA driver that the runtime does not offer, loaded when first needed.
#pragma once
#include <cuda.h>

#include <cstdint>

#include "core/base/cuda.cuh"

namespace smoe::driver {

/// Queues a write of `value`, visible after all writes of the stream's earlier work.
void write_value(cudaStream_t stream, std::uint32_t* at, std::uint32_t value);
/// Makes the stream wait until *at has reached `value`, counting modulo 2^32.
void wait_for_value(cudaStream_t stream, const std::uint32_t* at, std::uint32_t value);

/// The allocation that a device address belongs to.
struct Allocation {
  std::uint64_t id;  ///< of no other allocation of the process, earlier or later
  char* begin;
  bool is_sharable;  ///< whether other processes can map it
};
Allocation allocation_of(const void* address);

}  // namespace smoe::driver
