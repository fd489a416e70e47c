#include "core/distributed/copy/peer_memory.h"

#include <cstring>
#include <random>

#include "core/device.h"
#include "core/distributed/copy/driver.h"

namespace smoe {
namespace {

/// Tells this process from all others of the job, also those in containers of their own.
std::uint64_t process_id() {
  static const std::uint64_t id = [] {
    std::random_device random;
    return std::uint64_t{random()} << 32 | random();
  }();
  return id;
}

}  // namespace

/// What a rank tells the others of an allocation. Padded to whole shards of a collective.
struct alignas(64) PeerMemory::Offer {
  cudaIpcMemHandle_t handle;  // for other processes,
  std::uint64_t process;
  char* begin;  // and for ranks of the same one
  std::int32_t device;
  bool is_valid;
};

PeerMemory::PeerMemory(Communicator& control) : control_(control) {
  CUDA_CHECK(cudaGetDevice(&device_));
}

PeerMemory::~PeerMemory() {
  for (auto& [id, mapping] : mappings_)
    for (void* const memory : mapping.opened) cudaIpcCloseMemHandle(memory);
  cudaGetLastError();  // of GPUs that failed
}

const std::vector<char*>* PeerMemory::map(const void* own) {
  const driver::Allocation allocation = driver::allocation_of(own);
  if (!allocation.is_sharable) return nullptr;
  auto found = mappings_.find(allocation.id);
  if (found == mappings_.end())
    found = mappings_.emplace(allocation.id, exchange(allocation.begin)).first;
  Mapping& mapping = found->second;
  if (mapping.begins.empty()) return nullptr;
  const std::int64_t offset = static_cast<const char*>(own) - allocation.begin;
  mapping.current = mapping.begins;
  for (char*& place : mapping.current) place += offset;
  return &mapping.current;
}

PeerMemory::Mapping PeerMemory::exchange(char* begin) {
  const int rank = control_.rank(), world_size = control_.world_size();
  std::vector<Offer> offers(world_size);
  Offer& own = offers[rank];
  own = {
      .handle = {}, .process = process_id(), .begin = begin, .device = device_, .is_valid = true};
  own.is_valid = cudaIpcGetMemHandle(&own.handle, begin) == cudaSuccess;
  const Stream host_stream;
  const StreamGuard host(host_stream);
  const auto bytes = static_cast<std::int64_t>(offers.size() * sizeof(Offer));
  std::vector<std::uint8_t> memory(bytes);
  std::memcpy(memory.data(), offers.data(), bytes);
  const Tensor all = Tensor::from(memory, {bytes}, Category::workspace);
  control_.all_gather(all)->wait();
  memory = all.to_vector<std::uint8_t>();
  std::memcpy(static_cast<void*>(offers.data()), memory.data(), bytes);
  Mapping mapping;
  std::int64_t num_opened = 0;
  for (int peer = 0; peer < world_size; ++peer) {
    mapping.begins.push_back(peer == rank ? begin : open(offers[peer], mapping));
    num_opened += mapping.begins.back() != nullptr;
  }
  cudaGetLastError();  // of what could not be mapped
  const Tensor total = Tensor::from<std::int64_t>({num_opened}, {1}, Category::workspace);
  control_.all_reduce(total)->wait();
  if (total.to_vector<std::int64_t>()[0] != std::int64_t{world_size} * world_size)
    mapping.begins.clear();
  return mapping;
}

/// Null if it cannot be mapped.
char* PeerMemory::open(const Offer& offer, Mapping& mapping) const {
  if (offer.process == process_id()) {
    if (offer.device == device_) return offer.begin;
    const cudaError_t code = cudaDeviceEnablePeerAccess(offer.device, 0);
    return code == cudaSuccess || code == cudaErrorPeerAccessAlreadyEnabled ? offer.begin : nullptr;
  }
  void* memory = nullptr;
  if (!offer.is_valid ||
      cudaIpcOpenMemHandle(&memory, offer.handle, cudaIpcMemLazyEnablePeerAccess) != cudaSuccess)
    return nullptr;
  mapping.opened.push_back(memory);
  return static_cast<char*>(memory);
}

}  // namespace smoe
