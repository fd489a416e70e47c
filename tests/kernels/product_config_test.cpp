#include "kernels/cuda/grouped/product_config.h"

#include <doctest/doctest.h>

using namespace smoe;
using namespace smoe::kernels::cuda;

namespace {

constexpr DeviceLimits kHopper{132, 232448}, kAmpere{108, 166912}, kAda{128, 101376},
    kTuring{68, 65536};

ProductForm form_of(const ProductSizes& sizes, const DeviceLimits& limits) {
  return choose_product_form(sizes, limits);
}

}  // namespace

TEST_CASE("tensor cores take aligned bf16 products, plain multiply-adds the others") {
  const ProductSizes sizes{DType::bf16, 65536, 7168, 8, true};
  CHECK(form_of(sizes, kHopper) != ProductForm::plain);
  for (const DType dtype : {DType::f32, DType::f64}) {
    ProductSizes other = sizes;
    other.dtype = dtype;
    CHECK(form_of(other, kHopper) == ProductForm::plain);
  }
  ProductSizes odd = sizes;
  odd.is_aligned = false;
  CHECK(form_of(odd, kHopper) == ProductForm::plain);
}

TEST_CASE("a form's block fits into the device's shared memory") {
  for (const DeviceLimits& limits : {kHopper, kAmpere, kAda, kTuring})
    for (const std::int64_t cols : {8, 128, 256, 7168})
      for (const bool has_long_epilogue : {false, true}) {
        const ProductForm form =
            form_of({DType::bf16, 4096, cols, 8, true, has_long_epilogue}, limits);
        CHECK(shared_bytes_of(form) <= limits.shared_bytes);
      }
}

TEST_CASE("wide products take wide tiles where they fit") {
  const ProductSizes sizes{DType::bf16, 65536, 7168, 8, true};
  CHECK(form_of(sizes, kHopper) == ProductForm::wide);
  CHECK(form_of(sizes, kAmpere) == ProductForm::compact);
  CHECK(form_of(sizes, kAda) == ProductForm::plain);
  CHECK(form_of(sizes, kTuring) == ProductForm::plain);
  ProductSizes few = sizes;
  few.cols = 64;
  CHECK(form_of(few, kHopper) == ProductForm::compact);
}

TEST_CASE("the bound on tiles holds for every routing") {
  // 300 rows on 8 experts, at worst 2 experts' tiles of 128 rows and 7 begun ones.
  const ProductConfig rows = choose_row_product({DType::bf16, 300, 300, 8, true}, kHopper);
  CHECK(rows.max_tiles >= 9 * 2);
  CHECK(to_string(rows) == "wide 128x256, at most 20 tiles");
  const ProductConfig gradient = choose_gradient_product({DType::bf16, 300, 300, 8, true}, kHopper);
  CHECK(to_string(gradient) == "wide 128x256, at most 48 tiles");
}
