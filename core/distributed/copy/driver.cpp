#include "core/distributed/copy/driver.h"

#include "core/base/dynamic_library.h"

namespace smoe::driver {
namespace {

template <class F>
F* load(const char* name) {
  static const DynamicLibrary library({"libcuda.so.1"});
  F* function = nullptr;
  library.load(name, function);
  return function;
}

void check(const char* name, CUresult code) {
  if (code != CUDA_SUCCESS)
    throw SystemError(concat("cuda: ", name, " failed with code ", static_cast<int>(code)));
}

CUdeviceptr pointer(const void* address) {
  return reinterpret_cast<CUdeviceptr>(address);
}

}  // namespace

void write_value(cudaStream_t stream, std::uint32_t* at, std::uint32_t value) {
  static const auto call = load<decltype(::cuStreamWriteValue32)>("cuStreamWriteValue32_v2");
  check("cuStreamWriteValue32", call(stream, pointer(at), value, CU_STREAM_WRITE_VALUE_DEFAULT));
}

void wait_for_value(cudaStream_t stream, const std::uint32_t* at, std::uint32_t value) {
  static const auto call = load<decltype(::cuStreamWaitValue32)>("cuStreamWaitValue32_v2");
  check("cuStreamWaitValue32", call(stream, pointer(at), value, CU_STREAM_WAIT_VALUE_GEQ));
}

Allocation allocation_of(const void* address) {
  static const auto call = load<decltype(::cuPointerGetAttributes)>("cuPointerGetAttributes");
  unsigned long long id = 0;
  CUdeviceptr begin = 0;
  int is_sharable = 0;
  CUpointer_attribute names[] = {CU_POINTER_ATTRIBUTE_BUFFER_ID,
                                 CU_POINTER_ATTRIBUTE_RANGE_START_ADDR,
                                 CU_POINTER_ATTRIBUTE_IS_LEGACY_CUDA_IPC_CAPABLE};
  void* values[] = {&id, &begin, &is_sharable};
  check("cuPointerGetAttributes", call(3, names, values, pointer(address)));
  return {id, reinterpret_cast<char*>(begin), is_sharable != 0};
}

}  // namespace smoe::driver
