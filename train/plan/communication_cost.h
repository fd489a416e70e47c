// What ranks send in a training step, and how long that takes by a model of the links. See
// docs/scaling.md for its assumptions and for what was measured.
#pragma once
#include <cstdint>

namespace smoe {

/// GPUs of which each host has the same number.
struct Cluster {
  int num_ranks = 1;
  int ranks_per_host = 8;
  double link_bytes_per_s = 370e9;  ///< of a GPU to the others of its host, one direction: NVLink 4
  double network_bytes_per_s = 45e9;  ///< of a GPU to other hosts, one direction: 400 Gb/s
};

/// Of one rank and step.
struct CommunicationCost {
  std::int64_t reduce_bytes = 0;  ///< of gradients sent, beside backward
  std::int64_t gather_bytes = 0;  ///< of weights sent, beside the next forward; 0 without ZeRO
  double reduce_ms = 0, gather_ms = 0;
};

/// Gradients are all-reduced, or reduce-scattered and the weights gathered where `zero`. Within a
/// host, then between hosts, both at once for different buckets.
CommunicationCost communication_cost(std::int64_t gradient_bytes, std::int64_t weight_bytes,
                                     bool zero, const Cluster& cluster);

}  // namespace smoe
