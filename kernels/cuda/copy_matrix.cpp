#include "kernels/copy_matrix.h"

#include "kernels/cuda/launch.cuh"

namespace smoe::kernels::cuda {

void copy_matrix(const Launch& launch, const CopyMatrixArgs& args) {
  if (args.source.cols > 0) copy_matrix(launch, args.source, args.target);
}

}  // namespace smoe::kernels::cuda
