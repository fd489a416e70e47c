// Grouped matrix products over routed rows (ScatterMoE, arXiv:2403.08245): rows are gathered and
// scattered by index inside the product; no activation is copied to be sorted or padded.
#pragma once
#include "core/base/launch.h"
#include "core/base/matrix.h"
#include "kernels/routing_view.h"

namespace smoe::kernels {

/// Order of routed rows: by expert (grouped), or by (token, slot) (scattered).
enum class RowLayout : std::uint8_t { grouped, scattered };

}  // namespace smoe::kernels
