// Counter-based random numbers: Philox4x32-10 (Salmon et al., "Parallel random numbers: as easy as
// 1, 2, 3", SC 2011). A stream is named by a seed and what the numbers are for (a parameter's name,
// a step and a sequence), never by a rank, so that any number of ranks draws the same numbers.
#pragma once
#include <array>
#include <cstdint>
#include <string_view>

namespace smoe {

/// Four random words for one counter under one key.
std::array<std::uint32_t, 4> philox4x32(std::array<std::uint32_t, 4> counter,
                                        std::array<std::uint32_t, 2> key);

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

 private:
  std::array<std::uint32_t, 4> counter_;
  std::array<std::uint32_t, 2> key_;
  std::array<std::uint32_t, 4> words_{};
  int used_ = 4;
  double spare_normal_ = 0;
  bool has_spare_ = false;
};

}  // namespace smoe
