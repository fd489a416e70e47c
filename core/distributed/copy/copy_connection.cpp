#include "core/distributed/copy/copy_connection.h"

#include <algorithm>
#include <thread>

#include "core/distributed/copy/driver.h"
#include "core/distributed/copy_communicator.h"

namespace smoe {
namespace {

constexpr std::int64_t kFlagBytes = std::int64_t{2} << 20;
constexpr std::int64_t kStagingBytes = std::int64_t{256} << 20;
// A copy engine splits larger ones itself, and then waits for an SM to be free.
constexpr std::int64_t kCopyBytes = std::int64_t{64} << 20;
// Comes after the number of every exchange, modulo 2^32.
constexpr std::uint32_t kAhead = std::uint32_t{1} << 30;

}  // namespace

std::int64_t copy_communicator_bytes() {
  return kFlagBytes + kStagingBytes;
}

CopyConnection::CopyConnection(Communicator& control, cudaStream_t stream)
    : control_(control),
      rank_(control.rank()),
      world_size_(control.world_size()),
      stream_(stream),
      part_bytes_(kStagingBytes / 2 / (world_size_ - 1) / 512 * 512),
      memory_(control) {
  CUDA_CHECK(cudaGetDevice(&device_));
  CUDA_CHECK(cudaMalloc(&own_, kFlagBytes + kStagingBytes));
  CUDA_CHECK(cudaMemsetAsync(own_, 0, kFlagBytes, stream_));
  CUDA_CHECK(cudaStreamSynchronize(stream_));  // before another rank writes its flag
  CUDA_CHECK(cudaStreamCreateWithFlags(&release_stream_, cudaStreamNonBlocking));
  const std::vector<char*>* const all = memory_.map(own_);
  if (!all) return;
  for (char* const one : *all) {
    flags_.push_back(reinterpret_cast<std::uint32_t*>(one));
    staging_.push_back(one + kFlagBytes);
  }
}

CopyConnection::~CopyConnection() {
  if (is_possible() && !has_ended_ && !stop(Deadline::in(0))) return;  // the device is stuck
  cudaFree(own_);
  cudaStreamDestroy(release_stream_);
}

void CopyConnection::copy(void* target, const void* source, std::int64_t bytes) {
  for (std::int64_t done = 0; done < bytes; done += kCopyBytes)
    CUDA_CHECK(
        cudaMemcpyAsync(static_cast<char*>(target) + done, static_cast<const char*>(source) + done,
                        std::min(kCopyBytes, bytes - done), cudaMemcpyDeviceToDevice, stream_));
}

void CopyConnection::finish() {
  for (int i = 1; i < world_size_; ++i)
    driver::write_value(stream_, flags_[(rank_ + i) % world_size_] + rank_, exchange_);
  for (int i = 1; i < world_size_; ++i)
    driver::wait_for_value(stream_, flags_[rank_] + (rank_ + i) % world_size_, exchange_);
}

bool CopyConnection::is_idle_within(const Deadline& deadline) const {
  while (cudaStreamQuery(stream_) == cudaErrorNotReady) {
    cudaGetLastError();
    if (deadline.has_passed()) return false;
    std::this_thread::sleep_for(std::chrono::microseconds(50));
  }
  cudaGetLastError();
  return true;
}

bool CopyConnection::close(const Deadline& deadline) {
  if (!is_idle_within(deadline)) return false;
  try {
    control_.barrier()->wait();  // others may still write here
  } catch (const CommunicationError&) {
    return false;
  }
  has_ended_ = true;
  return true;
}

bool CopyConnection::stop(const Deadline& deadline) {
  if (has_ended_) return true;
  cudaSetDevice(device_);
  // Again and again, since a rank that is alive may overwrite a flag.
  do {
    try {
      for (int peer = 0; peer < world_size_; ++peer)
        driver::write_value(release_stream_, flags_[rank_] + peer, exchange_ + kAhead);
    } catch (const SystemError&) {
      return false;
    }
    if (is_idle_within(Deadline::in(0.002))) has_ended_ = true;
  } while (!has_ended_ && !deadline.has_passed());
  return has_ended_;
}

}  // namespace smoe
