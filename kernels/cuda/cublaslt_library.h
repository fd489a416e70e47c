// cuBLASLt's functions, from its shared library, which is opened at first use: a program that was
// built with CUDA also starts where the library is missing.
#pragma once
#include <cublasLt.h>

namespace smoe::kernels::cuda {

struct CublasltLibrary {
  decltype(&cublasLtGetStatusName) status_name;
  decltype(&cublasLtGetStatusString) status_string;
  decltype(&cublasLtCreate) create;
  decltype(&cublasLtMatrixLayoutInit_internal) layout_init;
  decltype(&cublasLtMatmulDescInit_internal) operation_init;
  decltype(&cublasLtMatmulDescSetAttribute) operation_set;
  decltype(&cublasLtMatmulPreferenceInit_internal) preference_init;
  decltype(&cublasLtMatmulPreferenceSetAttribute) preference_set;
  decltype(&cublasLtMatmulAlgoGetHeuristic) get_heuristic;
  decltype(&cublasLtMatmul) matmul;
};

/// Throws: SystemError if the library of CUDA's major version cannot be opened.
const CublasltLibrary& cublaslt_library();

}  // namespace smoe::kernels::cuda
