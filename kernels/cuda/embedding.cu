// Embedding. The backward sorts token positions stably by id and assigns each row of the table to a
// thread block, which accumulates the gradients of the row's tokens in an order that depends only
// on the ids.
#include "kernels/embedding.h"

#include <bit>
#include <cub/device/device_radix_sort.cuh>

#include "kernels/cuda/device/checked_index.cuh"
#include "kernels/cuda/device/reduce.cuh"
#include "kernels/cuda/device/vector.cuh"
#include "kernels/cuda/launch.cuh"

namespace smoe::kernels::cuda {
namespace {

constexpr int kThreads = 256;

template <int N, class T>
__global__ void __launch_bounds__(kThreads)
    embedding_forward_kernel(EmbeddingArgs args, std::int64_t num_chunks) {
  const std::int64_t at = std::int64_t{blockIdx.x} * kThreads + threadIdx.x;
  if (at >= num_chunks * args.output.rows) return;
  const std::int64_t t = at / num_chunks, j = at % num_chunks * N;
  float x[N];
  load(row_of<T>(args.table, checked_index(args.token_ids[t], args.table.rows)) + j, x);
  store(row_of<T>(args.output, t) + j, x);
}

// The backward's workspace: arrays one after another.
struct SortedTokens {
  std::int64_t num_tokens, num_rows;
  std::uint32_t* ids;       // [T], sorted
  std::int32_t* unsorted;   // [T]: 0, 1, ...
  std::int32_t* positions;  // [T]: the token position of each sorted id
  std::int32_t* starts;     // [V + 1]: the first sorted index of each id
  void* sort_workspace;
  std::size_t sort_bytes = 0;
  std::int64_t bytes;

  SortedTokens(const Launch& launch, const EmbeddingBackwardArgs& args)
      : num_tokens(args.doutput.rows), num_rows(args.dtable.rows) {
    auto* next = static_cast<std::byte*>(args.workspace);
    const auto take = [&](std::int64_t size) {
      std::byte* const taken = next;
      next += ceil_div(size, 256) * 256;
      return taken;
    };
    ids = reinterpret_cast<std::uint32_t*>(take(4 * num_tokens));
    unsorted = reinterpret_cast<std::int32_t*>(take(4 * num_tokens));
    positions = reinterpret_cast<std::int32_t*>(take(4 * num_tokens));
    starts = reinterpret_cast<std::int32_t*>(take(4 * (num_rows + 1)));
    sort_workspace = nullptr;
    if (launch.device.is_dry())
      sort_bytes = 2 * 4 * num_tokens;  // CUB asks the device; this holds a copy of both columns
    else
      CUDA_CHECK(sort(nullptr, nullptr));
    sort_workspace = take(static_cast<std::int64_t>(sort_bytes));
    bytes = next - static_cast<std::byte*>(args.workspace);
  }

  // Without sort_workspace it only sets sort_bytes.
  cudaError_t sort(const std::int32_t* token_ids, cudaStream_t stream) {
    const int num_bits = std::bit_width(static_cast<std::uint64_t>(num_rows));
    return cub::DeviceRadixSort::SortPairs(
        sort_workspace, sort_bytes, reinterpret_cast<const std::uint32_t*>(token_ids), ids,
        unsorted, positions, static_cast<int>(num_tokens), 0, num_bits, stream);
  }
};

__global__ void __launch_bounds__(kThreads)
    embedding_backward_positions_kernel(SortedTokens tokens) {
  const std::int64_t t = std::int64_t{blockIdx.x} * kThreads + threadIdx.x;
  if (t < tokens.num_tokens) tokens.unsorted[t] = static_cast<std::int32_t>(t);
}

// Thread i, up to and including T, writes the starts of all ids from ids[i - 1] + 1 to ids[i].
__global__ void __launch_bounds__(kThreads)
    embedding_backward_row_starts_kernel(SortedTokens tokens) {
  const std::int64_t i = std::int64_t{blockIdx.x} * kThreads + threadIdx.x;
  if (i > tokens.num_tokens) return;
  const std::int64_t first = i == 0 ? 0 : std::int64_t{tokens.ids[i - 1]} + 1;
  const std::int64_t last = i == tokens.num_tokens ? tokens.num_rows : std::int64_t{tokens.ids[i]};
  for (std::int64_t id = first; id <= last; ++id) tokens.starts[id] = static_cast<std::int32_t>(i);
}

constexpr int kWarps = kThreads / kWarp;

// A warp accumulates every kWarps-th token of the row, 32 N columns at a time; the partial sums of
// the warps are added in order.
template <int N, class T>
__global__ void __launch_bounds__(kThreads, 4)
    embedding_backward_kernel(EmbeddingBackwardArgs args, SortedTokens tokens) {
  constexpr int kColumns = kWarp * N;
  __shared__ float sums[kWarps][kColumns];
  const std::int64_t row = blockIdx.x, begin = tokens.starts[row], end = tokens.starts[row + 1];
  const float beta = static_cast<float>(args.beta);
  if (begin == end && beta == 1) return;
  const int warp = threadIdx.x / kWarp, lane = threadIdx.x % kWarp;
  float* target = row_of<float>(args.dtable, row);
  for (std::int64_t first = 0; first < args.dtable.cols; first += kColumns) {
    const std::int64_t column = first + lane * N;
    float sum[N] = {};
    if (column < args.dtable.cols) {
#pragma unroll 4
      for (std::int64_t i = begin + warp; i < end; i += kWarps) {
        float x[N];
        load(row_of<T>(args.doutput, tokens.positions[i]) + column, x);
#pragma unroll
        for (int j = 0; j < N; ++j) sum[j] += x[j];
      }
    }
#pragma unroll
    for (int j = 0; j < N; ++j) sums[warp][lane * N + j] = sum[j];
    __syncthreads();
    const int own = threadIdx.x;
    if (own < kColumns && first + own < args.dtable.cols) {
      float total = 0;
#pragma unroll
      for (int i = 0; i < kWarps; ++i) total += sums[i][own];
      float& element = target[first + own];
      element = beta == 0 ? total : beta * element + total;
    }
    __syncthreads();
  }
}

}  // namespace

void embedding(const Launch& launch, const EmbeddingArgs& args) {
  dispatch_storage("embedding", args.table.dtype, [&](auto type) {
    using T = decltype(type);
    if (args.output.rows == 0 || args.output.cols == 0) return;
    dispatch_width(fits_width(args.table) && fits_width(args.output), [&](auto width) {
      const std::int64_t num_chunks = args.output.cols / width;
      embedding_forward_kernel<width, T>
          <<<static_cast<unsigned>(ceil_div(num_chunks * args.output.rows, kThreads)), kThreads, 0,
             stream_of(launch)>>>(args, num_chunks);
      check_launch("embedding");
    });
  });
}

void embedding_backward(const Launch& launch, const EmbeddingBackwardArgs& args) {
  dispatch_storage("embedding_backward", args.doutput.dtype, [&](auto type) {
    using T = decltype(type);
    if (args.dtable.rows == 0 || args.dtable.cols == 0) return;
    SortedTokens tokens(launch, args);
    const auto stream = stream_of(launch);
    const auto blocks = static_cast<unsigned>(ceil_div(tokens.num_tokens + 1, kThreads));
    embedding_backward_positions_kernel<<<blocks, kThreads, 0, stream>>>(tokens);
    check_launch("embedding_backward");
    CUDA_CHECK(tokens.sort(args.token_ids, stream));
    embedding_backward_row_starts_kernel<<<blocks, kThreads, 0, stream>>>(tokens);
    check_launch("embedding_backward");
    dispatch_width(fits_width(args.doutput), [&](auto width) {
      embedding_backward_kernel<width, T>
          <<<static_cast<unsigned>(args.dtable.rows), kThreads, 0, stream>>>(args, tokens);
      check_launch("embedding_backward");
    });
  });
}

std::int64_t embedding_backward_workspace_bytes(const Launch& launch,
                                                const EmbeddingBackwardArgs& args) {
  return SortedTokens(launch, args).bytes;
}

}  // namespace smoe::kernels::cuda
