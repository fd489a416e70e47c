#include "kernels/activation.h"

#include "kernels/cpu/activation_rows.h"
#include "kernels/cpu/threads.h"

namespace smoe::kernels::cpu {
namespace {

constexpr std::int64_t kBlockRows = 16;

// Calls f(Act{}, T{}, first row, end of rows) for blocks of rows, on the thread pool.
template <class F>
void for_rows(Activation kind, DType dtype, std::int64_t rows, F&& f) {
  dispatch_activation(kind, [&](auto act) {
    dispatch_floating(dtype, [&](auto type) {
      parallel_blocks(rows, kBlockRows,
                      [&](std::int64_t begin, std::int64_t end, int) { f(act, type, begin, end); });
    });
  });
}

}  // namespace

void activation_forward(const Launch&, const ActivationArgs& args) {
  const std::int64_t n = args.a.cols;
  for_rows(args.kind, args.h.dtype, args.a.rows,
           [&](auto act, auto type, std::int64_t begin, std::int64_t end) {
             using T = decltype(type);
             for (std::int64_t i = begin; i < end; ++i) {
               const T* h = args.h.row<T>(i);
               activate_row<decltype(act), T>({h, h + n}, 1, args.a.row<T>(i), n);
             }
           });
}

void activation_backward(const Launch&, const ActivationBackwardArgs& args) {
  const std::int64_t n = args.da.cols;
  for_rows(
      args.kind, args.h.dtype, args.da.rows,
      [&](auto act, auto type, std::int64_t begin, std::int64_t end) {
        using T = decltype(type);
        for (std::int64_t i = begin; i < end; ++i) {
          const T* h = args.h.row<T>(i);
          T* dh = args.dh.row<T>(i);
          activate_row_backward<decltype(act), T>({h, h + n}, args.da.row<T>(i), {dh, dh + n}, n);
        }
      });
}

}  // namespace smoe::kernels::cpu
