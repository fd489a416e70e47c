// Transport: how ranks on GPUs of one host reach each other.
#pragma once
#include <cstdint>

namespace smoe {

enum class Transport : std::uint8_t {
  automatic,  ///< copies where all GPUs of the job can map each other's memory, else NCCL
  nccl,
  copy,  ///< peer copies by the copy engines, sums in the order of ranks
};

}  // namespace smoe
