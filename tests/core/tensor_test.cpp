#include "core/tensor.h"

#include <doctest/doctest.h>

#include <cmath>
#include <limits>
#include <numeric>

using namespace smoe;

TEST_CASE("views share storage and keep it alive") {
  Tensor part;
  {
    Tensor whole = Tensor::from<float>({0, 1, 2, 3, 4, 5}, {3, 2});
    part = whole.rows(1, 3);
    CHECK(part.shares_storage(whole));
    CHECK_FALSE(part.is_sole_reference());
  }
  CHECK(part.is_sole_reference());
  CHECK(part.to_vector<float>() == std::vector<float>{2, 3, 4, 5});
  CHECK(part.reshape({4}).view(1, {2}).to_vector<float>() == std::vector<float>{3, 4});
}

TEST_CASE("a shape whose bytes would overflow is refused") {
  const std::int64_t large = (std::int64_t{1} << 55) + 1;
  CHECK(Shape{1, large, 1}.numel() == large);
  CHECK_THROWS_WITH_AS((Shape{1, large, 64}),
                       "shape: a tensor must have less than 2^63 bytes; got [1, "
                       "36028797018963969, 64]",
                       UsageError);
  CHECK_THROWS_AS((Shape{0, large, 64}), UsageError);
  CHECK_THROWS_AS((Shape{2, 64}).with_rows(std::int64_t{1} << 57), UsageError);
}

TEST_CASE("invalid shapes, ranges and dtypes are refused with the values") {
  const Tensor x = Tensor::zeros({3, 2}, DType::f32);
  CHECK_THROWS_WITH_AS(x.reshape({5}), "tensor: cannot reshape [3, 2] to [5]", UsageError);
  CHECK_THROWS_WITH_AS(x.rows(2, 4), "tensor: rows [2, 4) are out of range for [3, 2]", UsageError);
  CHECK_THROWS_WITH_AS(x.data_as<double>(), "tensor: dtype must be f64; got f32", UsageError);
  CHECK_THROWS_AS(Tensor::from<float>({1, 2}, {3}), UsageError);
  CHECK_THROWS_AS(Tensor().data(), UsageError);
  CHECK_THROWS_AS((Shape{1, 1, 1, 1, 1}), UsageError);
  CHECK_THROWS_AS((Shape{-1}), UsageError);
}

TEST_CASE("tensors without elements work") {
  const Tensor x = Tensor::zeros({0, 8}, DType::bf16);
  CHECK(x.numel() == 0);
  CHECK(x.rows(0, 0).numel() == 0);
  CHECK(x.clone(Category::workspace).to_vector<bf16>().empty());
}

TEST_CASE("bf16 rounds to nearest even and keeps NaN and infinity") {
  CHECK(float(bf16(1.0f)) == 1.0f);
  CHECK(float(bf16(1.0f + 0x1p-8f)) == 1.0f);            // halfway, to even (down)
  CHECK(float(bf16(1.0f + 0x3p-8f)) == 1.0f + 0x4p-8f);  // halfway, to even (up)
  CHECK(float(bf16(1.0f + 0x1p-8f + 0x1p-20f)) == 1.0f + 0x2p-8f);
  CHECK(std::isnan(float(bf16(std::numeric_limits<float>::quiet_NaN()))));
  CHECK(float(bf16(std::numeric_limits<float>::infinity())) ==
        std::numeric_limits<float>::infinity());
  CHECK(float(bf16(std::numeric_limits<float>::max())) == std::numeric_limits<float>::infinity());
}

TEST_CASE("memory is accounted by category, exactly") {
  const auto before = memory_use(Category::workspace);
  const auto before_all = memory_use();
  {
    const Tensor a = Tensor::empty({3, 5}, DType::f32, Category::workspace);
    const Tensor view = a.rows(0, 1);
    CHECK(memory_use(Category::workspace).now_bytes == before.now_bytes + 60);
    CHECK(memory_use().now_bytes == before_all.now_bytes + 60);
    CHECK(memory_use(Category::activations).now_bytes ==
          memory_use().now_bytes - memory_use(Category::workspace).now_bytes -
              memory_use(Category::parameters).now_bytes -
              memory_use(Category::gradients).now_bytes -
              memory_use(Category::optimizer).now_bytes);
  }
  CHECK(memory_use(Category::workspace).now_bytes == before.now_bytes);
  CHECK(memory_use(Category::workspace).peak_bytes >= before.now_bytes + 60);
  reset_peak_memory();
  CHECK(memory_use(Category::workspace).peak_bytes == before.now_bytes);
}

TEST_CASE("the peak of the total is split by category") {
  reset_peak_memory();
  auto expected = memory_at_peak();
  CHECK(std::accumulate(expected.begin(), expected.end(), std::int64_t{0}) ==
        memory_use().peak_bytes);
  {
    const Tensor a = Tensor::empty({100}, DType::f32, Category::gradients);
    const Tensor b = Tensor::empty({50}, DType::f32, Category::workspace);
  }
  // More workspace than before but a smaller total: not the peak.
  { const Tensor c = Tensor::empty({60}, DType::f32, Category::workspace); }
  expected[static_cast<int>(Category::gradients)] += 400;
  expected[static_cast<int>(Category::workspace)] += 200;
  CHECK(memory_at_peak() == expected);
}

TEST_CASE("poisoned memory is NaN in every floating-point type") {
  set_poison_new_memory(true);
  CHECK(std::isnan(Tensor::empty({1}, DType::f32).item()));
  CHECK(std::isnan(Tensor::empty({1}, DType::f64).item()));
  CHECK(std::isnan(Tensor::empty({1}, DType::bf16).item()));
  set_poison_new_memory(false);
}
