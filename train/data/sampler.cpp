#include "train/data/sampler.h"

#include <algorithm>
#include <bit>

#include "core/base/check.h"
#include "core/random.h"

namespace smoe {
namespace {

// One epoch's offset and order. Cheap to make: nothing is stored per window.
class EpochOrder {
 public:
  EpochOrder(std::uint64_t seed, std::uint64_t name, std::int64_t epoch, std::int64_t num_windows,
             std::int64_t num_offsets)
      : num_windows_(static_cast<std::uint64_t>(num_windows)) {
    RandomStream random(seed, name, static_cast<std::uint64_t>(epoch));
    offset_ = static_cast<std::int64_t>(random.below(static_cast<std::uint64_t>(num_offsets)));
    key_ = {random.next_u32(), random.next_u32()};
    half_bits_ = std::max(1, (static_cast<int>(std::bit_width(num_windows_ - 1)) + 1) / 2);
  }

  std::int64_t offset() const { return offset_; }

  // The window that comes `index`-th. Steps of the permutation of [0, 4^half_bits) that leave the
  // windows' range are repeated until they are back in it ("cycle walking"): under four on average.
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

Sampler::Sampler(std::uint64_t seed, std::int64_t num_tokens, std::int64_t seq_len,
                 std::int64_t global_batch, std::string_view name)
    : seed_(seed),
      name_(hash_name(name.empty() ? "sampler" : concat("sampler/", name))),
      num_tokens_(num_tokens),
      seq_len_(seq_len),
      global_batch_(global_batch) {
  SMOE_CHECK(seq_len > 0 && global_batch > 0,
             "sampler: sequence length and global batch must be positive; got ", seq_len, " and ",
             global_batch);
  SMOE_CHECK(num_tokens > seq_len, "sampler: a sequence of ", seq_len, " tokens needs a stream of ",
             seq_len + 1, "; got ", num_tokens);
  // One window less than would fit at best, so that there are as many at every offset.
  num_windows_ = std::max<std::int64_t>(1, (num_tokens - seq_len) / seq_len);
}

std::vector<std::int64_t> Sampler::batch(std::int64_t step) const {
  return positions(step * global_batch_, global_batch_);
}

std::vector<std::int64_t> Sampler::positions(std::int64_t first, std::int64_t count) const {
  const std::int64_t spare = num_tokens_ - 1 - num_windows_ * seq_len_;
  const std::int64_t num_offsets = std::min(spare + 1, seq_len_);
  std::vector<std::int64_t> positions;
  positions.reserve(static_cast<std::size_t>(count));
  for (std::int64_t sample = first; sample < first + count;) {
    const EpochOrder order(seed_, name_, sample / num_windows_, num_windows_, num_offsets);
    const std::int64_t epoch_end = (sample / num_windows_ + 1) * num_windows_;
    for (; sample < std::min(epoch_end, first + count); ++sample)
      positions.push_back(order.offset() + order.window(sample % num_windows_) * seq_len_);
  }
  return positions;
}

double Sampler::epochs_before(std::int64_t step) const {
  return static_cast<double>(step) * static_cast<double>(global_batch_) /
         static_cast<double>(num_windows_);
}

std::vector<EvalBatch> eval_batches(std::int64_t num_tokens, std::int64_t seq_len,
                                    std::int64_t micro_batch, std::int64_t max_batches) {
  SMOE_CHECK(seq_len > 0 && micro_batch > 0 && max_batches >= 0,
             "evaluation: sequence length and batch must be positive; got ", seq_len, " and ",
             micro_batch);
  SMOE_CHECK(num_tokens >= 2, "evaluation: needs at least two tokens of text; got ", num_tokens);
  const std::int64_t num_targets = num_tokens - 1;
  const std::int64_t num_whole = num_targets / seq_len;
  const bool is_limited = max_batches > 0 && num_whole / micro_batch >= max_batches;
  const std::int64_t num_chosen = is_limited ? max_batches * micro_batch : num_whole;
  std::vector<EvalBatch> batches;
  for (std::int64_t i = 0; i < num_chosen; ++i) {
    if (i % micro_batch == 0) batches.push_back({{}, seq_len});
    // i * num_whole / num_chosen without its overflow; i when all windows are taken.
    const std::int64_t window =
        i * (num_whole / num_chosen) + i * (num_whole % num_chosen) / num_chosen;
    batches.back().positions.push_back(window * seq_len);
  }
  const std::int64_t rest = num_targets % seq_len;
  if (!is_limited && rest > 0) batches.push_back({{num_whole * seq_len}, rest});
  return batches;
}

}  // namespace smoe
