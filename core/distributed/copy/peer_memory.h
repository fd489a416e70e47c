// PeerMemory: allocations of the other ranks' GPUs, mapped into this process.
#pragma once
#include <cstdint>
#include <map>
#include <memory>
#include <vector>

#include "core/distributed/communicator.h"

namespace smoe {

class PeerMemory {
 public:
  /// Of the current device. `control` connects the ranks' hosts and must outlive this.
  explicit PeerMemory(Communicator& control);
  ~PeerMemory();
  PeerMemory(const PeerMemory&) = delete;
  PeerMemory& operator=(const PeerMemory&) = delete;

  /// Where this rank reaches what `own` is on each rank, by rank; null if some rank cannot. All
  /// ranks must call it in the same order; the first call for an allocation waits for them on the
  /// host. Throws: CommunicationError.
  const std::vector<char*>* map(const void* own);

 private:
  struct Offer;
  struct Mapping {
    std::vector<char*> begins;   // of the allocations, by rank; empty: some rank cannot map
    std::vector<void*> opened;   // of them, those to be closed
    std::vector<char*> current;  // what map() returned last
  };

  Mapping exchange(char* begin);
  char* open(const Offer& offer, Mapping& mapping) const;

  Communicator& control_;
  int device_ = 0;
  std::map<std::uint64_t, Mapping> mappings_;  // by the id of the own allocation
};

}  // namespace smoe
