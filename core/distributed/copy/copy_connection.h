// CopyConnection: exchanges between GPUs of one host. In an exchange each rank copies into the
// memory of the others, then tells each that its data has arrived, and waits on its stream for the
// same from them. All ranks run the same exchanges in the same order.
//
// Each GPU has
//   flags    [world_size]: number of the last exchange whose data from that rank has arrived
//   staging  [2][world_size - 1][part_bytes()]: what the others send, alternately to either half
//
// A rank whose data of exchange k has arrived has read what it received in exchange k - 1, so the
// half of exchange k - 1 may be written from exchange k + 1 on.
#pragma once
#include <atomic>
#include <cstdint>
#include <vector>

#include "core/base/cuda.cuh"
#include "core/distributed/copy/peer_memory.h"
#include "core/distributed/gpu/device_connection.h"

namespace smoe {

class CopyConnection final : public DeviceConnection {
 public:
  /// On the current device, with work on `stream`. `control` and the stream must outlive this.
  /// Throws: SystemError.
  CopyConnection(Communicator& control, cudaStream_t stream);
  ~CopyConnection() override;
  CopyConnection(const CopyConnection&) = delete;
  CopyConnection& operator=(const CopyConnection&) = delete;

  /// False, on all ranks alike, if the GPUs cannot map each other's memory; then nothing else may
  /// be called.
  bool is_possible() const { return !flags_.empty(); }

  /// What one rank can send to another in one exchange.
  std::int64_t part_bytes() const { return part_bytes_; }
  /// Begins an exchange.
  void begin() { ++exchange_; }
  /// Where what this rank sends goes in the staging memory of `peer`, ...
  char* outbox(int peer) const { return part(peer, rank_); }
  /// ... and where what `peer` has sent is after finish(), until the next exchange begins.
  const char* inbox(int peer) const { return part(rank_, peer); }
  /// Queues a copy to the memory of another rank, or within the own one.
  void copy(void* target, const void* source, std::int64_t bytes);
  /// Queues the wait for the data of all ranks.
  void finish();

  /// As PeerMemory::map.
  const std::vector<char*>* map(const void* own) { return memory_.map(own); }

  bool close(const Deadline& deadline) override;
  /// Frees the stream of waits for other ranks by setting its own flags.
  bool stop(const Deadline& deadline) override;

 private:
  char* part(int owner, int source) const {
    const int others = world_size_ - 1, place = (source - owner + others) % world_size_;
    return staging_[owner] + (exchange_ % 2 * others + place) * part_bytes_;
  }
  bool is_idle_within(const Deadline& deadline) const;

  Communicator& control_;
  const int rank_, world_size_;
  int device_ = 0;
  cudaStream_t stream_, release_stream_ = nullptr;
  std::int64_t part_bytes_;
  void* own_ = nullptr;  // flags, then staging memory
  PeerMemory memory_;
  std::vector<std::uint32_t*> flags_;  // by rank; empty: not possible
  std::vector<char*> staging_;
  std::atomic<std::uint32_t> exchange_{0};
  std::atomic<bool> has_ended_{false};
};

}  // namespace smoe
