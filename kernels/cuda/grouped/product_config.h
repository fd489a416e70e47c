// Which portable form a grouped product takes on a GPU: a pure function of the sizes and of what
// the device has. The tensor-core forms are those of compute capability 8.0.
#pragma once
#include <cstdint>
#include <string>

#include "core/base/check.h"
#include "core/base/dtype.h"

namespace smoe::kernels::cuda {

enum class ProductForm : std::uint8_t {
  plain,    ///< f32 multiply-adds: f32, and sizes that tensor cores do not take
  compact,  ///< tensor cores, tiles of 128 x 128, two stages, two blocks a multiprocessor
  wide,     ///< tensor cores, tiles of 128 x 256, four stages, one block a multiprocessor
};

struct ProductSizes {
  DType dtype;
  std::int64_t rows;         ///< of the result: routed rows, or an expert matrix's rows
  std::int64_t cols;         ///< of the result; of both halves of gated pre-activations together
  std::int64_t num_experts;  ///< tiles end at experts' borders
  bool is_aligned;  ///< every row of every array starts at 16 bytes and has whole 16-byte chunks
  /// The epilogue takes as long as the product, so that another block should run meanwhile.
  bool has_long_epilogue = false;
};

struct DeviceLimits {
  std::int64_t num_multiprocessors;
  std::int64_t shared_bytes;  ///< a block may use
};

struct ProductConfig {
  ProductForm form;
  std::int64_t tile_rows, tile_cols;
  std::int64_t max_tiles;  ///< upper bound over all routings
};

inline const char* name_of(ProductForm form) {
  switch (form) {
    case ProductForm::plain:
      return "plain";
    case ProductForm::compact:
      return "compact";
    case ProductForm::wide:
      return "wide";
  }
  return "?";
}

inline std::string to_string(const ProductConfig& config) {
  return concat(name_of(config.form), " ", config.tile_rows, "x", config.tile_cols, ", at most ",
                config.max_tiles, " tiles");
}

/// Bytes of shared memory the largest block of a form uses.
constexpr std::int64_t shared_bytes_of(ProductForm form) {
  constexpr std::int64_t kOperand = 64 * 2;       // of a row or column in a stage
  constexpr std::int64_t kStaging = 16 * 64 * 2;  // of 16 rows of a warp's results
  constexpr std::int64_t kSchedule = 1024;
  switch (form) {
    case ProductForm::plain:
      return 0;
    case ProductForm::compact:
      return 2 * (128 + 128) * kOperand + 4 * 6 * kStaging + kSchedule;
    case ProductForm::wide:
      return 4 * (128 + 256) * kOperand + 8 * 2 * kStaging + kSchedule;
  }
  return 0;
}

inline ProductForm choose_product_form(const ProductSizes& sizes, const DeviceLimits& limits) {
  const auto fits = [&](ProductForm form) { return shared_bytes_of(form) <= limits.shared_bytes; };
  if (sizes.dtype != DType::bf16 || !sizes.is_aligned || !fits(ProductForm::compact))
    return ProductForm::plain;
  const bool is_wide = sizes.cols > 128 && !sizes.has_long_epilogue;
  return is_wide && fits(ProductForm::wide) ? ProductForm::wide : ProductForm::compact;
}

/// For products of routed rows; `sizes.rows` are all of them.
inline ProductConfig choose_row_product(const ProductSizes& sizes, const DeviceLimits& limits) {
  const ProductForm form = choose_product_form(sizes, limits);
  const std::int64_t cols = form == ProductForm::wide ? 256 : 128;
  const std::int64_t col_tiles = (sizes.cols + cols - 1) / cols;
  return {form, 128, cols, (sizes.rows / 128 + sizes.num_experts) * col_tiles};
}

/// For weight gradients [num_experts, rows, cols].
inline ProductConfig choose_gradient_product(const ProductSizes& sizes,
                                             const DeviceLimits& limits) {
  const ProductForm form = choose_product_form(sizes, limits);
  const std::int64_t cols = form == ProductForm::wide ? 256 : 128;
  const std::int64_t row_tiles = (sizes.rows + 127) / 128;
  return {form, 128, cols, sizes.num_experts * row_tiles * ((sizes.cols + cols - 1) / cols)};
}

}  // namespace smoe::kernels::cuda
