// Builds without CUDA: no device can be selected, so only unavailable_reason is ever called.
#include "core/gpu.h"

#include "core/base/check.h"

namespace smoe::gpu {
namespace {

[[noreturn]] void fail() {
  throw InternalError("gpu: this build has no CUDA backend");
}

}  // namespace

std::string unavailable_reason(int) {
  return "this build of smoe has no CUDA backend; build it where nvcc is, with -DSMOE_CUDA=ON";
}

int num_visible() {
  return 0;
}
std::string name(int) {
  fail();
}
std::string pci_address(int) {
  fail();
}
std::string identity(int) {
  fail();
}
std::string driver_version() {
  fail();
}
void set_device(int) {
  fail();
}
std::mutex& background_calls() {
  fail();
}
std::shared_ptr<void> create_stream(int) {
  fail();
}
void wait_for_stream(void*) {
  fail();
}
std::shared_ptr<void> create_event(int) {
  fail();
}
void record_event(void*, void*) {
  fail();
}
void wait_for_event(void*) {
  fail();
}
bool has_reached(void*) {
  fail();
}
void wait_for_event_on(void*, void*) {
  fail();
}
double milliseconds_between(void*, void*) {
  fail();
}
void* allocate(std::int64_t, int, void*) {
  fail();
}
void release(void*, void*) noexcept {}
void* allocate_sharable(std::int64_t, int) {
  fail();
}
void release_sharable(void*) noexcept {}
void trim_pool(int) {
  fail();
}
MemoryInfo memory_info(int) {
  fail();
}
void memset_async(void*, int, std::int64_t, void*) {
  fail();
}
void copy_on_device(void*, const void*, std::int64_t, void*) {
  fail();
}
void copy_from_host(void*, const void*, std::int64_t, int, void*) {
  fail();
}
void copy_to_host(void*, const void*, std::int64_t, int, void*) {
  fail();
}

}  // namespace smoe::gpu
