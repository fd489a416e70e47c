// recompute: a segment of the forward pass whose intermediates are recomputed in backward instead
// of being kept until then (activation checkpointing, arXiv:1604.06174).
#pragma once
#include <functional>
#include <span>
#include <vector>

#include "autograd/parameter.h"
#include "autograd/variable.h"

namespace smoe {

/// A segment of the forward pass: maps its inputs to its outputs.
using Segment = std::function<std::vector<Variable>(std::span<const Variable> inputs)>;

/// Runs `segment` on `inputs` without recording it, and again in backward; in between only its
/// inputs are kept. `parameters` are all whose gradients it accumulates; each counts as in use
/// until the backward of the second run is done. Gradients are bit-identical to those of recording
/// the segment itself, provided that both runs compute the same values: random numbers must be
/// keyed, and decisions (routing) and counts must be made only in the first run. Without a tape the
/// segment runs once.
std::vector<Variable> recompute(const char* name, std::vector<Variable> inputs,
                                std::span<Parameter* const> parameters, Segment segment);

}  // namespace smoe
