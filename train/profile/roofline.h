// Roofline: what this device reaches on the two things that bound every kernel, measured with this
// program's own GEMM and copy.
#pragma once
#include <string>

#include "core/base/dtype.h"
#include "core/base/instrument.h"

namespace smoe {

struct Roofline {
  double flops_per_s = 0;  ///< of a dense GEMM in the training dtype
  double bytes_per_s = 0;  ///< of a copy, read and written bytes
  std::string gemm{};      ///< "8192 x 8192 x 8192 bf16"
  std::string copy{};      ///< "1 GiB"

  /// The least time for a cost, in milliseconds.
  double least_ms(const Cost& cost) const;
  /// FLOP per byte above which GEMMs, not memory, bound a kernel.
  double ridge() const { return flops_per_s / bytes_per_s; }
};

/// Measures on the current stream's device, which takes a second or less, and needs 2.5 GiB on a
/// GPU.
Roofline measure_roofline(DType dtype);

}  // namespace smoe
