// Row by row, in blocks of rows.
#include "kernels/copy_matrix.h"

#include <algorithm>
#include <cstring>

#include "kernels/cpu/threads.h"

namespace smoe::kernels::cpu {

void copy_matrix(const Launch&, const CopyMatrixArgs& args) {
  constexpr std::int64_t kElements = 1 << 15;  // per task
  const std::int64_t size = size_of(args.source.dtype), bytes = args.source.cols * size;
  if (bytes == 0) return;
  const auto* source = static_cast<const std::byte*>(args.source.data);
  auto* target = static_cast<std::byte*>(args.target.data);
  const std::int64_t rows = std::max<std::int64_t>(1, kElements / args.source.cols);
  parallel_blocks(args.source.rows, rows, [=](std::int64_t begin, std::int64_t end, int) {
    for (std::int64_t i = begin; i < end; ++i)
      std::memcpy(target + i * args.target.stride * size, source + i * args.source.stride * size,
                  bytes);
  });
}

}  // namespace smoe::kernels::cpu
