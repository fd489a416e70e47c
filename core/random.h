// Random numbers on the host, from the streams of core/base/philox.h. A stream is identified by a
// seed and its purpose (a parameter's name; a step and a sequence), never by a rank, so that the
// numbers do not depend on the number of ranks.
#pragma once
#include <array>
#include <cstdint>
#include <string_view>

#include "core/base/philox.h"

namespace smoe {

/// 64-bit FNV-1a hash of a name, to derive stream identifiers from names.
std::uint64_t hash_name(std::string_view name);

/// The numbers of one stream in order. They are bit-identical on every machine.
class RandomStream {
 public:
  /// `a` and `b` identify a stream of the seed, e.g. (hash_name(parameter), 0) or (step, sequence).
  RandomStream(std::uint64_t seed, std::uint64_t a, std::uint64_t b = 0);

  std::uint32_t next_u32();
  std::uint64_t next_u64();
  /// Uniform in [0, 1), 53 bits.
  double uniform();
  /// Unbiased uniform integer in [0, n). Throws: UsageError unless n > 0.
  std::uint64_t below(std::uint64_t n);
  /// Standard normal, of core/base/normal.h.
  double normal();
  /// Moves to the position of a new stream after `count` calls of normal(), so that threads can
  /// divide a stream. Throws: UsageError unless count is even: normals are drawn in pairs.
  void skip_to_normal(std::uint64_t count);

 private:
  PhiloxStream stream_;
  std::uint64_t block_ = 0;
  PhiloxWords words_{};
  int used_ = 4;
  double spare_normal_ = 0;
  bool has_spare_ = false;
};

}  // namespace smoe
