// The base of a model: parameters that are not trained. Checkpoints leave it out and name it by
// this digest.
#pragma once
#include <optional>

#include "core/system/digest.h"
#include "train/checkpoint/checkpoint.h"

namespace smoe {

/// Digest over names, shapes, dtypes and bytes of the tensors that `visit` visits; none if it
/// visits none. Waits for the device.
std::optional<Digest> base_digest(const VisitState& visit);

/// Throws: UsageError unless the checkpoint was trained on the base with digest `base`, or without
/// one if there is none. `source` says where the base is from.
void check_base(const Checkpoint& checkpoint, const std::optional<Digest>& base,
                const std::string& source);

}  // namespace smoe
