// Elementwise kernels over flat arrays.
#pragma once
#include <cstdint>
#include <span>

#include "core/base/dtype.h"
#include "core/base/launch.h"

namespace smoe::kernels {

/// sum = a + b, rounded once to `dtype`. `sum` may be `a` or `b`.
struct AddArgs {
  const void* a;
  const void* b;
  void* sum;
  DType dtype;
  std::int64_t numel;
};
void add(const Launch& launch, const AddArgs& args);

/// target = scale * source + beta * target, rounded once, between any two floating-point dtypes.
/// `target` may be `source` when the dtypes are equal. beta == 0 never reads `target`.
struct ScaleArgs {
  const void* source;
  DType source_dtype;
  void* target;
  DType target_dtype;
  std::int64_t numel;
  double scale = 1;
  double beta = 0;
};
void scale(const Launch& launch, const ScaleArgs& args);

/// sum = weights[0] scalars[0] + weights[1] scalars[1] + ..., each product and each partial sum
/// rounded to `dtype`, in this order.
struct WeightedSumArgs {
  std::span<const void* const> scalars;  ///< [1] each; the pointers in host memory, at least one
  std::span<const double> weights;       ///< as many
  DType dtype;                           ///< of the scalars and the sum: f32 or f64
  void* sum;                             ///< [1]
};
void weighted_sum(const Launch& launch, const WeightedSumArgs& args);

/// values[i] = weights[i] * scalars[i], in double.
struct GatherScalarsArgs {
  std::span<const void* const> scalars;  ///< [1] each; the pointers in host memory
  std::span<const double> weights;       ///< as many
  DType dtype;                           ///< of the scalars: f32 or f64
  double* values;                        ///< [number of scalars]
};
void gather_scalars(const Launch& launch, const GatherScalarsArgs& args);

/// Sets every element to `value`.
struct FillArgs {
  void* target;
  DType dtype;
  std::int64_t numel;
  double value;
};
void fill(const Launch& launch, const FillArgs& args);

/// target[i] = std * z[first + i], where z are the normals of the Philox stream (seed, a, b) in
/// order, as RandomStream draws them: the same bits on all devices.
struct FillNormalArgs {
  void* target;
  DType dtype;
  std::int64_t numel;
  double std;
  std::uint64_t seed;
  std::uint64_t a;
  std::uint64_t b;
  std::int64_t first;  ///< even
};
void fill_normal(const Launch& launch, const FillNormalArgs& args);

/// target[i] = source[i] * u[i], u uniform in [1 - epsilon, 1 + epsilon) from the Philox stream
/// (seed, a, b) as named in core/base/philox.h, one 32-bit word per element: a second call with the
/// same seed, a and b draws the same u. `target` may be `source`.
struct JitterArgs {
  const void* source;
  void* target;
  DType dtype;
  std::int64_t numel;
  double epsilon;
  std::uint64_t seed;
  std::uint64_t a;
  std::uint64_t b;
};
void jitter(const Launch& launch, const JitterArgs& args);

/// target[i] = source[i] / (1 - probability), or 0 with the given probability: where the i-th word
/// of the Philox stream (seed, a, b) is below probability * 2^32. `target` may be `source`.
struct DropoutArgs {
  const void* source;
  void* target;
  DType dtype;
  std::int64_t numel;
  double probability;  ///< in [0, 1)
  std::uint64_t seed;
  std::uint64_t a;
  std::uint64_t b;
};
void dropout(const Launch& launch, const DropoutArgs& args);

/// target[i] = factor * scalar[0] * source[i]: a scale that is on the device. `target` may be
/// `source`.
struct ScaleByArgs {
  const void* source;  ///< null: every element is factor * scalar[0]
  void* target;
  DType dtype;
  std::int64_t numel;
  const void* scalar;  ///< [1], accumulation dtype
  double factor = 1;
};
void scale_by(const Launch& launch, const ScaleByArgs& args);

/// squares[i] = (a[i] - b[i])^2, in the accumulation dtype of `dtype`.
struct SquaredDifferenceArgs {
  const void* a;
  const void* b;
  void* squares;
  DType dtype;  ///< of a and b
  std::int64_t numel;
};
void squared_difference(const Launch& launch, const SquaredDifferenceArgs& args);

/// difference = factor * (a - b), rounded once to `dtype`. `difference` may be `a` or `b`.
struct ScaledDifferenceArgs {
  const void* a;
  const void* b;
  void* difference;
  DType dtype;
  std::int64_t numel;
  double factor;
};
void scaled_difference(const Launch& launch, const ScaledDifferenceArgs& args);

}  // namespace smoe::kernels
