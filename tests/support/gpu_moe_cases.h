// The sizes and routings that the expert kernels are tested with on a GPU.
#pragma once
#include <doctest/doctest.h>

#include <algorithm>
#include <vector>

#include "kernels/grouped_gemm.h"
#include "tests/support/counts.h"
#include "tests/support/cuda.h"
#include "tests/support/moe_cases.h"

namespace smoe::test {

/// Sizes that the tensor-core kernels support, all multiples of 8: one of each dimension, no
/// tokens, fewer and more rows or columns than a tile, tails of all kinds, more k tiles than
/// pipeline stages, experts without rows and with most of them, both forms of down_backward on
/// Hopper, few and many partials of a gate gradient, more experts than a warp searches at a time,
/// the most experts of the sm90 form.
inline const std::vector<MoeCase>& aligned_moe_cases() {
  using enum Spread;
  static const std::vector<MoeCase> cases = {
      {1, 1, 1, 8, 8},
      {0, 2, 4, 8, 16},
      {5, 2, 4, 8, 16},
      {7, 3, 8, 24, 40, ends_empty},
      {64, 1, 1, 64, 128},
      {65, 2, 2, 128, 64},
      {128, 1, 1, 128, 256},
      {129, 2, 3, 72, 136},
      {300, 2, 4, 200, 264, middle_empty},
      {257, 4, 16, 136, 72, ends_empty},
      {500, 2, 8, 320, 520, one_expert},
      {1100, 1, 3, 392, 200},
      {1500, 2, 8, 256, 640},
      {2000, 2, 5, 328, 520, ends_empty},
      {40, 2, 3, 16, 2120},
      {150, 2, 3, 2056, 264},
      {70, 16, 33, 40, 72},
      {400, 16, 300, 72, 264, middle_empty},
      {90, 2, 512, 264, 40, ends_empty},
      {300, 16, 512, 16, 24, one_expert},
  };
  return cases;
}

/// Number `i` of random sizes and routings, all supported by the tensor-core kernels.
inline MoeCase random_moe_case(std::int64_t i) {
  RandomStream random(15, hash_name("routings"), i);
  const auto up_to = [&](std::int64_t most) {
    return 1 + static_cast<std::int64_t>(random.below(most));
  };
  const std::int64_t num_experts = up_to(up_to(96));
  return {.num_tokens = up_to(400) - 1,
          .top_k = up_to(std::min<std::int64_t>(num_experts, 8)),
          .num_experts = num_experts,
          .d = 8 * up_to(20),
          .f = 8 * up_to(20),
          .spread = static_cast<Spread>(random.below(4))};
}
/// With SMOE_FULL_COUNTS a soak of some minutes.
inline std::int64_t num_random_moe_cases() {
  return repetitions(10, 10'000);
}

/// Number `i` of random sizes and routings with several waves of tiles on a GPU, all supported by
/// the tensor-core kernels; the first has tails in all dimensions.
inline MoeCase many_tiles_moe_case(std::int64_t i) {
  if (i == 0) return {4500, 2, 8, 520, 1032};
  RandomStream random(16, hash_name("waves"), i);
  const auto from_to = [&](std::int64_t least, std::int64_t most) {
    return least + static_cast<std::int64_t>(random.below(most - least + 1));
  };
  const std::int64_t num_experts = from_to(1, from_to(1, 48));
  return {.num_tokens = from_to(2000, 5000),
          .top_k = from_to(1, std::min<std::int64_t>(num_experts, 2)),
          .num_experts = num_experts,
          .d = 8 * from_to(1, 100),
          .f = 8 * from_to(16, 100),
          .spread = static_cast<Spread>(random.below(4))};
}
inline std::int64_t num_many_tiles_moe_cases() {
  return repetitions(4, 200);
}

/// f(case, dtype) for aligned sizes in bf16 and f32, and for unaligned ones.
template <class F>
void for_gpu_moe_cases(F&& f) {
  for (const DType dtype : {DType::bf16, DType::f32}) {
    for (const MoeCase& test : aligned_moe_cases()) f(test, dtype);
    for (const MoeCase& test : moe_cases()) f(test, dtype);
  }
  const StreamGuard portable(current_stream(), {.experts = ExpertKernels::portable});
  INFO("portable expert GEMMs");
  for (const MoeCase& test : aligned_moe_cases()) f(test, DType::bf16);
}

}  // namespace smoe::test
