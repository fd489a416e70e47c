// The whole 1.5B model of the paper as variants of a benchmark: its training step with the experts
// computed in one of two ways.
#pragma once
#include "train/bench/expert_variant.h"
#include "train/bench/sweep.h"
#include "train/config/config.h"

namespace smoe {

inline constexpr VariantKind kModelVariants[] = {VariantKind::smoe, VariantKind::padded};

/// configs/smoe-1.5b.yaml with one micro-batch per step, with widths, sequences and layers divided
/// by `scale` where that leaves something of them.
Config paper_model(std::int64_t scale, DType dtype);

/// Times training steps of the point's model, each on the same random tokens, with experts computed
/// as `kind` says; one of kModelVariants. backward_ms is the rest of a step after its forward,
/// update included; peak_bytes is that of the step, and kept_bytes 0.
/// `reference` holds the loss and gradient norm of the first variant after a few steps, which the
/// call sets if it is empty; the error is the difference to them, over their value.
Measurement measure_model(VariantKind kind, const SweepPoint& point, double seconds,
                          std::vector<double>& reference);

}  // namespace smoe
