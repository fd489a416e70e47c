// Epilogue arguments that all forms of the expert GEMMs share.
#pragma once
#include "kernels/moe_mlp.h"

namespace smoe::kernels::cuda {

/// y = acc + bias, rounded to T.
template <class T>
struct StoreRowsArgs {
  T* y;
  std::int64_t stride;
  int cols;
  const std::int32_t* ids;  // null if y is grouped
  const T* bias;            // [E, cols], or null

  __device__ T* row(int m) const { return y + (ids ? __ldg(ids + m) : m) * stride; }
};

template <class T>
StoreRowsArgs<T> store_rows_args(const GroupedGemmArgs& args) {
  const bool is_scattered = args.y_layout == RowLayout::scattered;
  return {.y = static_cast<T*>(args.y.data),
          .stride = args.y.stride,
          .cols = static_cast<int>(args.y.cols),
          .ids = is_scattered ? args.routing.sorted_scattered_ids : nullptr,
          .bias = static_cast<const T*>(args.bias.data)};
}

/// h = acc, rounded to T; a = gate * act(h).
template <class T>
struct ActivateArgs {
  Activation kind;
  const std::int32_t* ids;
  const float* gates;
  T* h;  // [N, 2F] or [N, F], or null
  std::int64_t h_stride;
  T* a;  // [N, F]
  std::int64_t a_stride;
  int cols;  // F

  __device__ float gate(int row) const { return gates[__ldg(ids + row)]; }
};

template <class T>
ActivateArgs<T> activate_args(const ExpertUpArgs& args) {
  return {.kind = args.kind,
          .ids = args.routing.sorted_scattered_ids,
          .gates = static_cast<const float*>(args.gates),
          .h = static_cast<T*>(args.h.data),
          .h_stride = args.h.stride,
          .a = static_cast<T*>(args.a.data),
          .a_stride = args.a.stride,
          .cols = static_cast<int>(args.a.cols)};
}

/// da = acc; h becomes dh, a is recomputed, and each row's gate gradient is reduced over groups of
/// columns, whose partials are added up in a fixed order afterwards.
template <class T>
struct ActivateBackwardArgs {
  Activation kind;
  const std::int32_t* ids;
  const float* gates;
  T* h;  // [N, 2F] or [N, F]: h in, dh out
  std::int64_t h_stride;
  T* a;  // [N, F]
  std::int64_t a_stride;
  float* partials;  // [N, num_partials]
  int num_partials;
  int cols;  // F

  __device__ float gate(int row) const { return gates[__ldg(ids + row)]; }
  __device__ float& partial(int row, int i) const {
    return partials[std::int64_t{row} * num_partials + i];
  }
};

template <class T>
ActivateBackwardArgs<T> activate_backward_args(const ExpertDownBackwardArgs& args,
                                               int num_partials) {
  return {.kind = args.kind,
          .ids = args.routing.sorted_scattered_ids,
          .gates = static_cast<const float*>(args.gates),
          .h = static_cast<T*>(args.h.data),
          .h_stride = args.h.stride,
          .a = static_cast<T*>(args.a.data),
          .a_stride = args.a.stride,
          .partials = static_cast<float*>(args.workspace),
          .num_partials = num_partials,
          .cols = static_cast<int>(args.a.cols)};
}

/// dW = acc + beta dW, rounded to G.
template <class G>
struct WeightGradientArgs {
  G* dweight;  // [E, rows, cols]
  int rows, cols;
  float beta;

  __device__ G* row(int expert, int m) const {
    return dweight + (std::int64_t{expert} * rows + m) * cols;
  }
};

template <class G>
WeightGradientArgs<G> weight_gradient_args(const ExpertGradientArgs& args) {
  return {.dweight = static_cast<G*>(args.dweight),
          .rows = static_cast<int>(args.dy.rows.cols),
          .cols = static_cast<int>(args.x.rows.cols),
          .beta = static_cast<float>(args.beta)};
}

}  // namespace smoe::kernels::cuda
