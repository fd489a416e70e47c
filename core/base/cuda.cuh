// CUDA error codes as exceptions. Only for files that are compiled with CUDA.
#pragma once
#include <cuda_runtime_api.h>

#include "core/base/check.h"

namespace smoe {

/// Whether an error is sticky: caused by an earlier kernel, it makes every later call of this
/// process fail too.
inline bool is_sticky(cudaError_t code) {
  switch (code) {
    case cudaErrorIllegalAddress:
    case cudaErrorLaunchFailure:
    case cudaErrorLaunchTimeout:
    case cudaErrorMisalignedAddress:
    case cudaErrorIllegalInstruction:
    case cudaErrorInvalidAddressSpace:
    case cudaErrorInvalidPc:
    case cudaErrorHardwareStackError:
    case cudaErrorAssert:
    case cudaErrorECCUncorrectable:
      return true;
    default:
      return false;
  }
}

/// Throws: SystemError that names the call, its source line, the device and the code.
[[noreturn]] inline void throw_cuda_error(const char* call, cudaError_t code, const char* file,
                                          int line) {
  int device = -1;
  cudaGetDevice(&device);
  cudaGetLastError();  // clears a non-sticky error so that later checks do not see it
  throw SystemError(concat("cuda: ", call, " failed at ", file, ":", line, " on device ", device,
                           ": ", cudaGetErrorName(code), ": ", cudaGetErrorString(code),
                           is_sticky(code)
                               ? " (in a kernel launched earlier; run with CUDA_LAUNCH_BLOCKING=1 "
                                 "to see which)"
                               : ""));
}

}  // namespace smoe

/// Throws SystemError unless a CUDA runtime call returned cudaSuccess.
#define CUDA_CHECK(call)                                                \
  do {                                                                  \
    if (const cudaError_t smoe_code = (call); smoe_code != cudaSuccess) \
      ::smoe::throw_cuda_error(#call, smoe_code, __FILE__, __LINE__);   \
  } while (false)
