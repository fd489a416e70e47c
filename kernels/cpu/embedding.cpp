// A backward task is a range of columns for all tokens: no sort is needed, no two tasks write the
// same element, and the cost does not depend on how often a token repeats. A bf16 gradient is
// summed in a copy of these columns.
#include "kernels/embedding.h"

#include <algorithm>

#include "kernels/checked_index.h"
#include "kernels/cpu/panel.h"
#include "kernels/cpu/threads.h"

namespace smoe::kernels::cpu {
namespace {

constexpr std::int64_t kRows = 64;
constexpr std::int64_t kCols = 32;

// The backward for the dtype T of doutput.
template <class T>
struct Backward {
  using Acc = accumulation_t<T>;

  const EmbeddingBackwardArgs& args;
  bool converts = args.dtable.dtype != dtype_of<Acc>;

  Acc* take(Scratch& scratch) const {
    return converts ? scratch.take<Acc>(args.dtable.rows * std::min(kCols, args.dtable.cols))
                    : nullptr;
  }

  void run() const {
    const ThreadWorkspace workspace(args.workspace, *this);
    const auto columns = [&](std::int64_t begin, std::int64_t end, int thread) {
      const Block block{0, args.dtable.rows, begin, end};
      if (!converts) return add(block, args.dtable.row<Acc>(0) + begin, args.dtable.stride);
      Scratch scratch = workspace.of(thread);
      Acc* const sum = take(scratch);
      if (args.beta != 0) load_panel(args.dtable, block, sum);
      add(block, sum, block.cols());
      store_block(sum, args.dtable, block);
    };
    parallel_blocks(args.dtable.cols, kCols, columns);
  }

  // A block of whole columns of dtable is at `sum`.
  void add(const Block& block, Acc* sum, std::int64_t stride) const {
    const std::int64_t n = block.cols();
    for (std::int64_t v = 0; args.beta != 1 && v < block.rows(); ++v) {
      Acc* row = sum + v * stride;
      for (std::int64_t j = 0; j < n; ++j)
        row[j] = args.beta == 0 ? Acc(0) : Acc(args.beta) * row[j];
    }
    for (std::int64_t t = 0; t < args.doutput.rows; ++t) {
      const T* source = args.doutput.row<T>(t) + block.col_begin;
      Acc* row = sum + checked_index(args.token_ids[t], block.rows()) * stride;
      for (std::int64_t j = 0; j < n; ++j) row[j] += Acc(source[j]);
    }
  }
};

template <class F>
decltype(auto) dispatch_backward(const EmbeddingBackwardArgs& args, F&& f) {
  return dispatch_floating(args.doutput.dtype,
                           [&](auto type) { return f(Backward<decltype(type)>{args}); });
}

}  // namespace

void embedding(const Launch&, const EmbeddingArgs& args) {
  dispatch_floating(args.table.dtype, [&](auto type) {
    using T = decltype(type);
    parallel_blocks(args.output.rows, kRows, [&](std::int64_t begin, std::int64_t end, int) {
      for (std::int64_t t = begin; t < end; ++t)
        std::copy_n(args.table.row<T>(checked_index(args.token_ids[t], args.table.rows)),
                    args.table.cols, args.output.row<T>(t));
    });
  });
}

void embedding_backward(const Launch&, const EmbeddingBackwardArgs& args) {
  dispatch_backward(args, [](const auto& backward) { backward.run(); });
}

std::int64_t embedding_backward_workspace_bytes(const Launch&, const EmbeddingBackwardArgs& args) {
  return dispatch_backward(args,
                           [](const auto& backward) { return ThreadWorkspace::bytes(backward); });
}

}  // namespace smoe::kernels::cpu
