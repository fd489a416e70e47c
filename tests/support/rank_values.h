// Values that ranks have in tests of collective operations, and their sums.
#pragma once
#include <cstdint>
#include <cstring>
#include <vector>

namespace smoe::test {

/// What `rank` has at element i: of many magnitudes, so that sums round.
inline double value_at(int rank, std::int64_t i) {
  const double digits = static_cast<double>((i * 7919 + rank * 104'729) % 1'000'003) / 1'000'003;
  return (0.5 + digits) * static_cast<double>(std::int64_t{1} << (rank * 5 + i) % 23);
}

template <class T>
std::vector<T> values_of_rank(int rank, std::int64_t numel) {
  std::vector<T> values(numel);
  for (std::int64_t i = 0; i < numel; ++i) values[i] = static_cast<T>(value_at(rank, i));
  return values;
}

/// The sums in the order of ranks, accumulated in Acc; over two ranks there is no other order.
template <class T, class Acc>
std::vector<T> expected_sums(int world_size, std::int64_t numel) {
  std::vector<T> sums(numel);
  for (std::int64_t i = 0; i < numel; ++i) {
    Acc sum = static_cast<Acc>(static_cast<T>(value_at(0, i)));
    for (int rank = 1; rank < world_size; ++rank)
      sum += static_cast<Acc>(static_cast<T>(value_at(rank, i)));
    sums[i] = static_cast<T>(sum);
  }
  return sums;
}

template <class T>
bool same_bits(const std::vector<T>& a, const std::vector<T>& b) {
  return a.size() == b.size() &&
         (a.empty() || std::memcmp(a.data(), b.data(), a.size() * sizeof(T)) == 0);
}

}  // namespace smoe::test
