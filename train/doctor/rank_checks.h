// The part of `smoe doctor` that connects ranks.
#pragma once
#include <cstdint>
#include <functional>
#include <string>

#include "core/distributed/communicator.h"
#include "train/doctor/finding.h"

namespace smoe {

/// All-reduces `bytes` of f32 among two ranks on the CPU over TCP, and where this process sees two
/// or more GPUs, among one rank per GPU over NCCL; checks the sums and times them. Takes less where
/// memory is short. Ranks are threads of this process.
Findings check_ranks(std::int64_t bytes);

/// The size that ranks of this machine can each hold: `bytes`, or the half, quarter, ... of it that
/// all of them need no more than half of `available` for; at least 1 MiB.
std::int64_t fitting_bytes(std::int64_t bytes, int num_ranks, std::int64_t available);

/// The finding of an all-reduce that one rank of `communicator` takes part in. All ranks must call
/// it. Throws: CommunicationError; OutOfMemory.
Finding check_all_reduce(Communicator& communicator, std::int64_t bytes);

}  // namespace smoe
