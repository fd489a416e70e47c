// Random numbers on the host, from core/base/philox.h's streams. A stream is named by a seed and
// what the numbers are for (a parameter's name, a step and a sequence), never by a rank, so that
// any number of ranks draws the same numbers.
#pragma once
#include <array>
#include <cstdint>
#include <string_view>

#include "core/base/philox.h"

namespace smoe {

/// 64-bit FNV-1a of a name, to make streams from names.
std::uint64_t hash_name(std::string_view name);

/// The numbers of one stream in order. Integers and uniforms are the same bits on every machine.
class RandomStream {
 public:
  /// `a` and `b` tell streams of one seed apart, e.g. (hash_name(parameter), 0) or (step,
  /// sequence).
  RandomStream(std::uint64_t seed, std::uint64_t a, std::uint64_t b = 0);

  std::uint32_t next_u32();
  std::uint64_t next_u64();
  /// Uniform in [0, 1), 53 bits.
  double uniform();
  /// Uniform integer in [0, n) without bias. Throws: UsageError unless n > 0.
  std::uint64_t below(std::uint64_t n);
  /// Standard normal (Box-Muller, in double, on the host).
  double normal();
  /// Goes to where a new stream is after `count` calls of normal(), so that threads can share its
  /// work. Throws: UsageError unless count is even: normals are drawn in pairs.
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
