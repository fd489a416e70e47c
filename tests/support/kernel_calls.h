// Kernel calls as tests and benchmarks make them.
#pragma once
#include <type_traits>

#include "core/device.h"
#include "core/tensor.h"
#include "kernels/grouped_gemm.h"

namespace smoe::test {

/// Calls a kernel on the current stream with the scratch memory it asks for.
template <class Args>
void run_kernel(void (*kernel)(const Launch&, const Args&),
                std::int64_t (*workspace_bytes)(const Launch&, const Args&),
                std::type_identity_t<Args> args) {
  const std::int64_t bytes = workspace_bytes(launch(), args);
  const Tensor workspace =
      bytes == 0 ? Tensor() : Tensor::empty({bytes}, DType::u8, Category::workspace);
  args.workspace = bytes == 0 ? nullptr : workspace.data();
  kernel(launch(), args);
}

inline kernels::ExpertMatrices experts_of(const Tensor& w) {
  return {w.data(), w.dtype(), w.dim(1), w.dim(2)};
}

}  // namespace smoe::test
