// Counter-based random numbers: Philox4x32-10 (Salmon et al., "Parallel random numbers: as easy as
// 1, 2, 3", SC 2011). Each block of a stream is computed independently, so threads and devices draw
// the same words in any order.
#pragma once
#include <array>
#include <cstdint>

namespace smoe {

using PhiloxWords = std::array<std::uint32_t, 4>;

/// Four random words for one counter under one key.
constexpr PhiloxWords philox4x32(PhiloxWords counter, std::array<std::uint32_t, 2> key) {
  for (int round = 0; round < 10; ++round) {
    const std::uint64_t p0 = std::uint64_t{0xD2511F53u} * counter[0];
    const std::uint64_t p1 = std::uint64_t{0xCD9E8D57u} * counter[2];
    counter = {
        static_cast<std::uint32_t>(p1 >> 32) ^ counter[1] ^ key[0], static_cast<std::uint32_t>(p1),
        static_cast<std::uint32_t>(p0 >> 32) ^ counter[3] ^ key[1], static_cast<std::uint32_t>(p0)};
    key[0] += 0x9E3779B9u;
    key[1] += 0xBB67AE85u;
  }
  return counter;
}

/// Uniform in [0, 1) from 64 random bits, of which it takes 53.
constexpr double uniform_from(std::uint64_t bits) {
  return static_cast<double>(bits >> 11) * 0x1.0p-53;
}

/// The stream of a seed that two words identify, e.g. (hash of a name, 0) or (step, sequence).
class PhiloxStream {
 public:
  constexpr PhiloxStream(std::uint64_t seed, std::uint64_t a, std::uint64_t b)
      : seed_(seed), name_(mix(mix(a) ^ b)) {}

  /// Words 4 i to 4 i + 3.
  constexpr PhiloxWords block(std::uint64_t i) const {
    return philox4x32({low(i), high(i), low(name_), high(name_)}, {low(seed_), high(seed_)});
  }

 private:
  static constexpr std::uint32_t low(std::uint64_t x) { return static_cast<std::uint32_t>(x); }
  static constexpr std::uint32_t high(std::uint64_t x) {
    return static_cast<std::uint32_t>(x >> 32);
  }

  // splitmix64's finalizer: spreads the two words over the whole counter space.
  static constexpr std::uint64_t mix(std::uint64_t x) {
    x += 0x9e3779b97f4a7c15ull;
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9ull;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebull;
    return x ^ (x >> 31);
  }

  std::uint64_t seed_;
  std::uint64_t name_;
};

}  // namespace smoe
