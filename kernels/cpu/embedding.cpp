// A backward task is a range of columns for all tokens: no sort is needed, no two tasks write the
// same element, and the cost does not depend on how often a token repeats.
#include "kernels/embedding.h"

#include <algorithm>

#include "kernels/checked_index.h"
#include "kernels/cpu/threads.h"

namespace smoe::kernels::cpu {
namespace {

constexpr std::int64_t kRows = 64;
constexpr std::int64_t kCols = 32;

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
  dispatch_floating(args.doutput.dtype, [&](auto type) {
    using T = decltype(type);
    using Acc = accumulation_t<T>;
    parallel_blocks(args.dtable.cols, kCols, [&](std::int64_t begin, std::int64_t end, int) {
      for (std::int64_t v = 0; args.beta != 1 && v < args.dtable.rows; ++v) {
        Acc* row = args.dtable.row<Acc>(v);
        for (std::int64_t j = begin; j < end; ++j)
          row[j] = args.beta == 0 ? Acc(0) : Acc(args.beta) * row[j];
      }
      for (std::int64_t t = 0; t < args.doutput.rows; ++t) {
        const T* source = args.doutput.row<T>(t);
        Acc* row = args.dtable.row<Acc>(checked_index(args.token_ids[t], args.dtable.rows));
        for (std::int64_t j = begin; j < end; ++j) row[j] += Acc(source[j]);
      }
    });
  });
}

std::int64_t embedding_backward_workspace_bytes(const Launch&, const EmbeddingBackwardArgs&) {
  return 0;
}

}  // namespace smoe::kernels::cpu
