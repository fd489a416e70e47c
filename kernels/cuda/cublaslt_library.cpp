#include "kernels/cuda/cublaslt_library.h"

#include <cuda_runtime_api.h>
#include <dlfcn.h>

#include <string>

#include "core/base/check.h"

namespace smoe::kernels::cuda {
namespace {

template <class F>
void load(void* library, const char* name, F& function) {
  function = reinterpret_cast<F>(::dlsym(library, name));
  if (!function) throw SystemError(concat("gemm: cuBLASLt has no function ", name));
}

CublasltLibrary open_library() {
  const std::string file = concat("libcublasLt.so.", CUDART_VERSION / 1000);
  void* library = ::dlopen(file.c_str(), RTLD_NOW | RTLD_LOCAL);
  if (!library) {
    const char* const reason = ::dlerror();
    const std::string in_toolkit = concat("/usr/local/cuda/lib64/", file);
    library = ::dlopen(in_toolkit.c_str(), RTLD_NOW | RTLD_LOCAL);
    if (!library)
      throw SystemError(concat("gemm: cannot load ", file, ": ", reason ? reason : "no reason",
                               "; install CUDA's cuBLAS, or set LD_LIBRARY_PATH to its folder"));
  }
  CublasltLibrary all;
  load(library, "cublasLtGetStatusName", all.status_name);
  load(library, "cublasLtGetStatusString", all.status_string);
  load(library, "cublasLtCreate", all.create);
  load(library, "cublasLtMatrixLayoutInit_internal", all.layout_init);
  load(library, "cublasLtMatmulDescInit_internal", all.operation_init);
  load(library, "cublasLtMatmulDescSetAttribute", all.operation_set);
  load(library, "cublasLtMatmulPreferenceInit_internal", all.preference_init);
  load(library, "cublasLtMatmulPreferenceSetAttribute", all.preference_set);
  load(library, "cublasLtMatmulAlgoGetHeuristic", all.get_heuristic);
  load(library, "cublasLtMatmul", all.matmul);
  return all;
}

}  // namespace

const CublasltLibrary& cublaslt_library() {
  static const CublasltLibrary library = open_library();
  return library;
}

}  // namespace smoe::kernels::cuda
