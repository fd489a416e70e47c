// Launching kernels on the current stream.
#pragma once
#include <functional>
#include <type_traits>

#include "core/device.h"
#include "core/tensor.h"
#include "kernels/gemm.h"

namespace smoe {

/// Memory of at least so many bytes for one kernel.
using WorkspaceSource = std::function<Tensor(std::int64_t bytes)>;

inline Tensor new_workspace(std::int64_t bytes) {
  return Tensor::empty({bytes}, DType::u8, Category::workspace);
}

/// Launches a kernel on the current stream with a workspace of the size it asks for.
template <class Args>
void run_kernel(void (*kernel)(const Launch&, const Args&),
                std::int64_t (*workspace_bytes)(const Launch&, const Args&),
                std::type_identity_t<Args> args, const WorkspaceSource& source = new_workspace) {
  const std::int64_t bytes = workspace_bytes(launch(), args);
  Tensor workspace;
  if (bytes > 0) workspace = source(bytes);
  args.workspace = bytes > 0 ? workspace.data() : nullptr;
  kernel(launch(), args);
}

inline void run_gemm(const kernels::GemmArgs& args) {
  run_kernel(kernels::gemm, kernels::gemm_workspace_bytes, args);
}

}  // namespace smoe
