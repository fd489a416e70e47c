#include "kernels/rotary.h"

#include <doctest/doctest.h>

#include "tests/kernels/rotary_cases.h"
#include "tests/reference/rotary.h"
#include "tests/support/compare.h"

using namespace smoe;
using namespace smoe::test;
using kernels::AttentionShape;

namespace {

constexpr DType kDtypes[] = {DType::f32, DType::f64, DType::bf16};

// {B, S, H, Hkv, C}
constexpr AttentionShape kShapes[] = {{1, 1, 1, 1, 2},  {2, 3, 1, 1, 2},   {1, 17, 4, 1, 6},
                                      {3, 16, 2, 2, 8}, {1, 33, 4, 2, 32}, {2, 70, 8, 2, 10},
                                      {0, 5, 1, 1, 4},  {3, 0, 1, 1, 4}};

}  // namespace

TEST_CASE("rotary agrees with complex multiplication in both directions") {
  const PoisonGuard poison;
  for (const AttentionShape& shape : kShapes)
    for (const DType dtype : kDtypes)
      for (const bool inverse : {false, true}) {
        const Tensor x = random_qkv(shape, dtype);
        const Tensor y = run_rotary(x, Tensor::empty_like(x), shape, inverse);
        // In f64 the angle itself, up to S radians, is rounded.
        const std::int64_t length = dtype == DType::f64 ? 2 + shape.seq_len * shape.seq_len : 2;
        check_close(
            "rotary", y,
            reference::rotary(shape.batch, shape.seq_len, shape.num_heads + 2 * shape.num_kv_heads,
                              shape.num_heads + shape.num_kv_heads, shape.head_dim, kRotaryTheta,
                              inverse ? -1 : 1, values_of(x)),
            {.sum_length = length});
      }
}

TEST_CASE("rotary gives the same bits in place and for any number of threads") {
  for (const AttentionShape& shape : kShapes)
    for (const DType dtype : kDtypes) {
      const Tensor x = random_qkv(shape, dtype);
      const Tensor apart = run_rotary(x, Tensor::empty_like(x), shape, false);
      check_same_bits("rotary in place", run_rotary(x, x, shape, false), apart);
      check_thread_independence("rotary", [&] {
        const Tensor own = random_qkv(shape, dtype);
        return std::vector{run_rotary(own, own, shape, false)};
      });
    }
}

TEST_CASE("rotary is exact to the dtype at positions far from the start") {
  // At position 100,000 an angle computed in f32 would be off by 0.004.
  const AttentionShape shape{1, 100001, 1, 1, 2};
  const Tensor x = random_qkv(shape, DType::f32);
  const Tensor y = run_rotary(x, Tensor::empty_like(x), shape, false);
  check_close("rotary", y,
              reference::rotary(1, shape.seq_len, 3, 2, 2, kRotaryTheta, 1, values_of(x)),
              {.sum_length = 2});
}

TEST_CASE("rotary of the last rows from their first position equals that of the whole sequence") {
  const AttentionShape whole{1, 40, 2, 1, 6};
  for (const DType dtype : kDtypes) {
    const Tensor x = random_qkv(whole, dtype);
    const Tensor rotated = run_rotary(x, Tensor::empty_like(x), whole, false);
    for (const std::int64_t first : {1, 23, 39}) {
      AttentionShape rest = whole;
      rest.seq_len = 40 - first;
      const Tensor tail = x.rows(first, 40);
      const Tensor y = run_rotary(tail, Tensor::empty_like(tail), rest, false, first);
      check_same_bits("rotary", y, rotated.rows(first, 40));
    }
  }
}
