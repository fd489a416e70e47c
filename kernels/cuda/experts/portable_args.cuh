// Kernel arguments of the portable forms (simt, sm80). P is a GroupedGemm of either form, T the
// storage type.
#pragma once
#include "kernels/ceil_div.h"
#include "kernels/cuda/device/row_index.cuh"
#include "kernels/cuda/device/tile_scheduler.cuh"
#include "kernels/cuda/experts/choose.h"
#include "kernels/cuda/experts/epilogue_args.cuh"

namespace smoe::kernels::cuda {

template <class T, class Args>
Args routed_rows_args(const RoutingView& routing, const ConstMatrix& rows, RowLayout layout) {
  return {.data = static_cast<const T*>(rows.data),
          .row_bytes = row_bytes(rows),
          .index = RowIndex(routing, layout, rows.rows)};
}
template <class T, class Args>
Args routed_columns_args(const RoutingView& routing, const RoutedRows& rows) {
  return {.data = static_cast<const T*>(rows.rows.data),
          .row_bytes = row_bytes(rows.rows),
          .cols = static_cast<int>(rows.rows.cols),
          .index = RowIndex(routing, rows.layout, rows.rows.rows)};
}
template <class T, class Args>
Args weight_args(const ExpertMatrices& weight, std::int64_t cols) {
  return {.data = static_cast<const T*>(weight.data),
          .expert_stride = weight.rows * weight.cols,
          .row_bytes = row_bytes(weight[0]),
          .cols = static_cast<int>(cols)};
}
inline RoutedTileScheduler::Args routed_schedule(const RoutingView& routing, std::int64_t cols,
                                                 std::int64_t tile_cols, std::int64_t k) {
  return {.expert_offsets = routing.expert_offsets,
          .num_experts = static_cast<int>(routing.num_experts),
          .col_tiles = static_cast<int>(ceil_div(cols, tile_cols)),
          .k = static_cast<int>(k)};
}

template <class P, class T>
typename P::Args kernel_args(const GroupedGemmArgs& args, const ExpertGemmConfig&) {
  const ConstMatrix& x = args.x.rows;
  return {.scheduler = routed_schedule(args.routing, args.y.cols, P::kTileCols, x.cols),
          .left = routed_rows_args<T, typename P::Left::Args>(args.routing, x, args.x.layout),
          .right = weight_args<T, typename P::Right::Args>(args.weight, args.y.cols),
          .epilogue = store_rows_args<T>(args)};
}

template <class P, class T>
typename P::Args kernel_args(const ExpertGradientArgs& args, const ExpertGemmConfig& config) {
  const std::int64_t d_out = args.dy.rows.cols, d_in = args.x.rows.cols;
  return {.scheduler = {.expert_offsets = args.routing.expert_offsets,
                        .num_experts = static_cast<int>(args.routing.num_experts),
                        .row_tiles = static_cast<int>(ceil_div(d_out, config.tile.m)),
                        .col_tiles = static_cast<int>(ceil_div(d_in, config.tile.n)),
                        .rows = static_cast<int>(d_out)},
          .left = routed_columns_args<T, typename P::Left::Args>(args.routing, args.dy),
          .right = routed_columns_args<T, typename P::Right::Args>(args.routing, args.x),
          .epilogue = weight_gradient_args<typename P::Epilogue::Gradient>(args)};
}

template <class P, class T>
typename P::Args kernel_args(const ExpertUpArgs& args, const ExpertGemmConfig&) {
  const std::int64_t f = args.a.cols;
  return {.scheduler = routed_schedule(args.routing, f, P::kTileCols, args.x.cols),
          .left = routed_rows_args<T, typename P::Left::Args>(args.routing, args.x,
                                                              RowLayout::scattered),
          .right = weight_args<T, typename P::Right::Args>(args.w1, f),
          .epilogue = activate_args<T>(args)};
}

template <class P, class T>
typename P::Args kernel_args(const ExpertDownBackwardArgs& args, const ExpertGemmConfig& config) {
  const std::int64_t f = args.a.cols;
  const auto num_partials = static_cast<int>(config.num_partials(f));
  return {.scheduler = routed_schedule(args.routing, f, P::kTileCols, args.dout.cols),
          .left = routed_rows_args<T, typename P::Left::Args>(args.routing, args.dout,
                                                              RowLayout::scattered),
          .right = weight_args<T, typename P::Right::Args>(args.w2, f),
          .epilogue = activate_backward_args<T>(args, num_partials)};
}

}  // namespace smoe::kernels::cuda
