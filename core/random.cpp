#include "core/random.h"

#include "core/base/check.h"
#include "core/base/normal.h"

namespace smoe {

std::uint64_t hash_name(std::string_view name) {
  std::uint64_t hash = 0xcbf29ce484222325ull;
  for (const char c : name) hash = (hash ^ static_cast<unsigned char>(c)) * 0x100000001b3ull;
  return hash;
}

RandomStream::RandomStream(std::uint64_t seed, std::uint64_t a, std::uint64_t b)
    : stream_(seed, a, b) {}

std::uint32_t RandomStream::next_u32() {
  if (used_ == 4) {
    words_ = stream_.block(block_++);
    used_ = 0;
  }
  return words_[used_++];
}

std::uint64_t RandomStream::next_u64() {
  const std::uint64_t high = next_u32();
  return high << 32 | next_u32();
}

double RandomStream::uniform() {
  return uniform_from(next_u64());
}

std::uint64_t RandomStream::below(std::uint64_t n) {
  SMOE_CHECK(n > 0, "random: below(n): n must be positive");
  // Draws beyond the last whole multiple of n would favor small results.
  const std::uint64_t limit = ~std::uint64_t{0} - ~std::uint64_t{0} % n;
  std::uint64_t draw = next_u64();
  while (draw >= limit) draw = next_u64();
  return draw % n;
}

double RandomStream::normal() {
  if (has_spare_) {
    has_spare_ = false;
    return spare_normal_;
  }
  const PhiloxWords words = {next_u32(), next_u32(), next_u32(), next_u32()};
  const NormalPair pair = normal_pair(words);
  spare_normal_ = pair.second;
  has_spare_ = true;
  return pair.first;
}

void RandomStream::skip_to_normal(std::uint64_t count) {
  SMOE_CHECK(count % 2 == 0, "random: skip_to_normal(count): count must be even; got ", count);
  block_ = count / 2;  // a pair takes two uniforms of two words each
  used_ = 4;
  has_spare_ = false;
}

}  // namespace smoe
