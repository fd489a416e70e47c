#include "kernels/cuda/cublaslt_library.h"

#include <cuda_runtime_api.h>

#include <string>

#include "core/base/dynamic_library.h"

namespace smoe::kernels::cuda {
namespace {

CublasltLibrary open_library() {
  const std::string file = concat("libcublasLt.so.", CUDART_VERSION / 1000);
  const DynamicLibrary library({file, concat("/usr/local/cuda/lib64/", file)},
                               "install CUDA's cuBLAS, or set LD_LIBRARY_PATH to its folder");
  CublasltLibrary all;
  library.load("cublasLtGetStatusName", all.status_name);
  library.load("cublasLtGetStatusString", all.status_string);
  library.load("cublasLtCreate", all.create);
  library.load("cublasLtMatrixLayoutInit_internal", all.layout_init);
  library.load("cublasLtMatmulDescInit_internal", all.operation_init);
  library.load("cublasLtMatmulDescSetAttribute", all.operation_set);
  library.load("cublasLtMatmulPreferenceInit_internal", all.preference_init);
  library.load("cublasLtMatmulPreferenceSetAttribute", all.preference_set);
  library.load("cublasLtMatmulAlgoGetHeuristic", all.get_heuristic);
  library.load("cublasLtMatmul", all.matmul);
  return all;
}

}  // namespace

const CublasltLibrary& cublaslt_library() {
  static const CublasltLibrary library = open_library();
  return library;
}

}  // namespace smoe::kernels::cuda
