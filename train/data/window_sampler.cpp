#include "train/data/window_sampler.h"

#include <algorithm>
#include <bit>

#include "core/base/check.h"
#include "core/random.h"

namespace smoe {
namespace {

// One epoch's offset and order. Cheap to construct: nothing is stored per window.
class EpochOrder {
 public:
  EpochOrder(std::uint64_t seed, std::uint64_t name_hash, std::int64_t epoch,
             std::int64_t num_windows, std::int64_t num_offsets)
      : num_windows_(static_cast<std::uint64_t>(num_windows)) {
    RandomStream random(seed, name_hash, static_cast<std::uint64_t>(epoch));
    offset_ = static_cast<std::int64_t>(random.below(static_cast<std::uint64_t>(num_offsets)));
    key_ = {random.next_u32(), random.next_u32()};
    half_bits_ = std::max(1, (static_cast<int>(std::bit_width(num_windows_ - 1)) + 1) / 2);
  }

  std::int64_t offset() const { return offset_; }

  // The index-th window to visit. The permutation of [0, 4^half_bits) is applied until the result
  // is a valid window ("cycle walking"): fewer than four times on average.
  std::int64_t window(std::int64_t index) const {
    std::uint64_t x = static_cast<std::uint64_t>(index);
    do {
      x = permute(x);
    } while (x >= num_windows_);
    return static_cast<std::int64_t>(x);
  }

 private:
  std::uint64_t permute(std::uint64_t x) const {
    constexpr std::uint32_t kRounds = 8;
    const std::uint32_t mask = static_cast<std::uint32_t>((std::uint64_t{1} << half_bits_) - 1);
    std::uint32_t left = static_cast<std::uint32_t>(x >> half_bits_);
    std::uint32_t right = static_cast<std::uint32_t>(x) & mask;
    for (std::uint32_t round = 0; round < kRounds; ++round) {
      const std::uint32_t mixed = left ^ (philox4x32({right, round, 0, 0}, key_)[0] & mask);
      left = right;
      right = mixed;
    }
    return std::uint64_t{left} << half_bits_ | right;
  }

  std::uint64_t num_windows_;
  std::int64_t offset_ = 0;
  std::array<std::uint32_t, 2> key_{};
  int half_bits_ = 1;
};

}  // namespace

WindowSampler::WindowSampler(std::uint64_t seed, std::int64_t num_tokens, std::int64_t seq_len,
                             std::string_view name)
    : seed_(seed),
      name_hash_(hash_name(name.empty() ? "sampler" : concat("sampler/", name))),
      num_tokens_(num_tokens),
      seq_len_(seq_len) {
  SMOE_CHECK(seq_len > 0, "window sampler: seq_len must be positive; got ", seq_len);
  SMOE_CHECK(num_tokens > seq_len,
             "window sampler: num_tokens must be at least seq_len + 1=", seq_len + 1, "; got ",
             num_tokens);
  // One window less than the maximum that fits, so that every offset has the same number.
  num_windows_ = std::max<std::int64_t>(1, (num_tokens - seq_len) / seq_len);
}

std::vector<std::int64_t> WindowSampler::positions(std::int64_t first, std::int64_t count) const {
  const std::int64_t spare = num_tokens_ - 1 - num_windows_ * seq_len_;
  const std::int64_t num_offsets = std::min(spare + 1, seq_len_);
  std::vector<std::int64_t> positions;
  positions.reserve(static_cast<std::size_t>(count));
  for (std::int64_t sample = first; sample < first + count;) {
    const EpochOrder order(seed_, name_hash_, sample / num_windows_, num_windows_, num_offsets);
    const std::int64_t epoch_end = (sample / num_windows_ + 1) * num_windows_;
    for (; sample < std::min(epoch_end, first + count); ++sample)
      positions.push_back(order.offset() + order.window(sample % num_windows_) * seq_len_);
  }
  return positions;
}

}  // namespace smoe
