#include "train/tokenizer/bpe_merges.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <map>
#include <random>
#include <utility>
#include <vector>

using namespace smoe;

namespace {

struct Rule {
  std::int32_t left, right, result;
};

// Merges the pair of the highest priority, the leftmost of equal ones, one at a time.
std::vector<std::int32_t> merged(std::vector<std::int32_t> symbols,
                                 const std::vector<Rule>& rules) {
  for (;;) {
    std::size_t best = rules.size(), place = 0;
    for (std::size_t i = 0; i + 1 < symbols.size(); ++i)
      for (std::size_t r = 0; r < best; ++r)
        if (rules[r].left == symbols[i] && rules[r].right == symbols[i + 1]) {
          best = r;
          place = i;
        }
    if (best == rules.size()) return symbols;
    symbols[place] = rules[best].result;
    symbols.erase(symbols.begin() + static_cast<std::ptrdiff_t>(place) + 1);
  }
}

}  // namespace

TEST_CASE("pairs are merged by priority, then from the left") {
  std::mt19937 random(3);
  for (int round = 0; round < 500; ++round) {
    const int num_letters = 1 + static_cast<int>(random() % 3);
    std::vector<Rule> rules;
    std::map<std::pair<int, int>, bool> seen;
    BpeMerges merges;
    std::int32_t num_symbols = num_letters;
    for (int i = 0; i < 8; ++i) {
      const auto left = static_cast<std::int32_t>(random() % static_cast<unsigned>(num_symbols));
      const auto right = static_cast<std::int32_t>(random() % static_cast<unsigned>(num_symbols));
      if (std::exchange(seen[{left, right}], true)) continue;
      rules.push_back({left, right, num_symbols});
      merges.add(left, right, num_symbols++);
    }
    std::vector<std::int32_t> symbols(random() % 40);
    for (auto& symbol : symbols)
      symbol = static_cast<std::int32_t>(random() % static_cast<unsigned>(num_letters));
    const auto wanted = merged(symbols, rules);
    merges.apply(symbols);
    CHECK(symbols == wanted);
  }
}

TEST_CASE("a long run is merged in less than quadratic time") {
  BpeMerges merges;
  merges.add(0, 0, 1);
  merges.add(1, 1, 2);
  std::vector<std::int32_t> symbols(1 << 20, 0);
  merges.apply(symbols);
  CHECK(symbols == std::vector<std::int32_t>(1 << 18, 2));
}

TEST_CASE("a pair that is added again takes the later priority") {
  BpeMerges merges;
  merges.add(0, 1, 3);
  merges.add(1, 2, 4);
  merges.add(0, 1, 3);
  std::vector<std::int32_t> symbols = {0, 1, 2};
  merges.apply(symbols);
  CHECK(symbols == std::vector<std::int32_t>{0, 4});
}
