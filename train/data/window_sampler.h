// The order in which one token set's windows are trained on: a pure function of (seed, epoch,
// index), the same for any number of ranks. The training stream is cut into windows of S tokens;
// each window overlaps the next by one token, its last target. Every epoch starts the cuts at a new
// random offset and visits the windows in a new pseudo-random order, a Feistel permutation (Black
// and Rogaway, CT-RSA 2002), which needs no memory.
#pragma once
#include <cstdint>
#include <string_view>
#include <vector>

namespace smoe {

/// The shuffled order of one set's windows. Immutable, so a run resumes from a sample's index.
class WindowSampler {
 public:
  /// `num_tokens` in the training stream, `seq_len` = S targets per window. Sets with different
  /// names have different orders.
  /// Throws: UsageError unless the stream holds one window, S + 1 tokens.
  WindowSampler(std::uint64_t seed, std::int64_t num_tokens, std::int64_t seq_len,
                std::string_view name = "");

  /// First tokens of the windows with indices [first, first + count), [count], counted from the
  /// start of training: a window at p has inputs [p, p + S) and targets [p + 1, p + S + 1). The
  /// range may span epochs.
  std::vector<std::int64_t> positions(std::int64_t first, std::int64_t count) const;

  /// Windows per epoch, the same in every epoch.
  std::int64_t num_windows() const { return num_windows_; }

 private:
  std::uint64_t seed_;
  std::uint64_t name_hash_;
  std::int64_t num_tokens_;
  std::int64_t seq_len_;
  std::int64_t num_windows_;
};

}  // namespace smoe
