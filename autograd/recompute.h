// recompute: a part of the forward pass whose intermediates are computed again in backward rather
// than kept until then (gradient checkpointing, arXiv:1604.06174).
#pragma once
#include <functional>
#include <span>
#include <vector>

#include "autograd/parameter.h"
#include "autograd/variable.h"

namespace smoe {

/// A part of the forward pass: its inputs to its outputs.
using Segment = std::function<std::vector<Variable>(std::span<const Variable> inputs)>;

/// Runs `segment` on `inputs` without recording it, and runs it again in backward; between the two
/// its inputs are kept and nothing else. `parameters` are all whose gradients it accumulates; each
/// counts as used until the second run's backward is done. Gradients are those of recording the
/// segment itself, bit for bit, if it computes the same both times: random numbers must be keyed,
/// and decisions (routing) and counts must be made in the first run alone. Without a tape the
/// segment just runs.
std::vector<Variable> recompute(const char* name, std::vector<Variable> inputs,
                                std::span<Parameter* const> parameters, Segment segment);

}  // namespace smoe
