// The backward sorts token positions by id, stably, and gives each row of the table to a block,
// which adds the row's tokens up in an order that their ids alone decide.
#include "kernels/embedding.h"

#include <bit>
#include <cub/device/device_radix_sort.cuh>

#include "kernels/cuda/device/reduce.cuh"
#include "kernels/cuda/device/vector.cuh"
#include "kernels/cuda/launch.cuh"

namespace smoe::kernels::cuda {
namespace {

constexpr int kThreads = 256;

template <int N, class T>
__global__ void __launch_bounds__(kThreads) gather(EmbeddingArgs args, std::int64_t num_pieces) {
  const std::int64_t at = std::int64_t{blockIdx.x} * kThreads + threadIdx.x;
  if (at >= num_pieces * args.output.rows) return;
  const std::int64_t t = at / num_pieces, j = at % num_pieces * N;
  float x[N];
  load(row_of<T>(args.table, args.token_ids[t]) + j, x);
  store(row_of<T>(args.output, t) + j, x);
}

// The backward's scratch memory, one array after the other.
struct SortedTokens {
  std::int64_t num_tokens, num_rows;
  std::uint32_t* ids;       // [T], sorted
  std::int32_t* unsorted;   // [T]: 0, 1, ...
  std::int32_t* positions;  // [T]: the token of each sorted id
  std::int32_t* starts;     // [V + 1]: the first sorted place of each id
  void* sort_memory;
  std::size_t sort_bytes = 0;
  std::int64_t bytes;

  SortedTokens(const EmbeddingBackwardArgs& args)
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
    sort_memory = nullptr;
    CUDA_CHECK(sort(nullptr, nullptr));
    sort_memory = take(static_cast<std::int64_t>(sort_bytes));
    bytes = next - static_cast<std::byte*>(args.workspace);
  }

  // With no memory only sort_bytes is set.
  cudaError_t sort(const std::int32_t* token_ids, cudaStream_t stream) {
    const int num_bits = std::bit_width(static_cast<std::uint64_t>(num_rows));
    return cub::DeviceRadixSort::SortPairs(
        sort_memory, sort_bytes, reinterpret_cast<const std::uint32_t*>(token_ids), ids, unsorted,
        positions, static_cast<int>(num_tokens), 0, num_bits, stream);
  }
};

__global__ void __launch_bounds__(kThreads) count_up(SortedTokens tokens) {
  const std::int64_t t = std::int64_t{blockIdx.x} * kThreads + threadIdx.x;
  if (t < tokens.num_tokens) tokens.unsorted[t] = static_cast<std::int32_t>(t);
}

// The thread of each sorted place, and of the end, writes the starts of the ids after its
// predecessor's up to its own.
__global__ void __launch_bounds__(kThreads) find_starts(SortedTokens tokens) {
  const std::int64_t i = std::int64_t{blockIdx.x} * kThreads + threadIdx.x;
  if (i > tokens.num_tokens) return;
  const std::int64_t first = i == 0 ? 0 : std::int64_t{tokens.ids[i - 1]} + 1;
  const std::int64_t last = i == tokens.num_tokens ? tokens.num_rows : std::int64_t{tokens.ids[i]};
  for (std::int64_t id = first; id <= last; ++id) tokens.starts[id] = static_cast<std::int32_t>(i);
}

constexpr int kGroups = kThreads / kWarp;

// A warp adds every kGroups-th token of the row, 32 N columns at a time; the sums of the warps are
// added in their order.
template <int N, class T>
__global__ void __launch_bounds__(kThreads, 4)
    add_tokens(EmbeddingBackwardArgs args, SortedTokens tokens) {
  constexpr int kColumns = kWarp * N;
  __shared__ float sums[kGroups][kColumns];
  const std::int64_t row = blockIdx.x, begin = tokens.starts[row], end = tokens.starts[row + 1];
  const float beta = static_cast<float>(args.beta);
  if (begin == end && beta == 1) return;
  const int group = threadIdx.x / kWarp, lane = threadIdx.x % kWarp;
  float* target = row_of<float>(args.dtable, row);
  for (std::int64_t first = 0; first < args.dtable.cols; first += kColumns) {
    const std::int64_t column = first + lane * N;
    float sum[N] = {};
    if (column < args.dtable.cols) {
#pragma unroll 4
      for (std::int64_t i = begin + group; i < end; i += kGroups) {
        float x[N];
        load(row_of<T>(args.doutput, tokens.positions[i]) + column, x);
#pragma unroll
        for (int j = 0; j < N; ++j) sum[j] += x[j];
      }
    }
#pragma unroll
    for (int j = 0; j < N; ++j) sums[group][lane * N + j] = sum[j];
    __syncthreads();
    const int own = threadIdx.x;
    if (own < kColumns && first + own < args.dtable.cols) {
      float total = 0;
#pragma unroll
      for (int i = 0; i < kGroups; ++i) total += sums[i][own];
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
      const std::int64_t num_pieces = args.output.cols / width;
      gather<width, T><<<static_cast<unsigned>(ceil_div(num_pieces * args.output.rows, kThreads)),
                         kThreads, 0, stream_of(launch)>>>(args, num_pieces);
      check_launch("embedding");
    });
  });
}

void embedding_backward(const Launch& launch, const EmbeddingBackwardArgs& args) {
  dispatch_storage("embedding_backward", args.doutput.dtype, [&](auto type) {
    using T = decltype(type);
    if (args.dtable.rows == 0 || args.dtable.cols == 0) return;
    SortedTokens tokens(args);
    const auto stream = stream_of(launch);
    const auto blocks = static_cast<unsigned>(ceil_div(tokens.num_tokens + 1, kThreads));
    count_up<<<blocks, kThreads, 0, stream>>>(tokens);
    check_launch("embedding_backward");
    CUDA_CHECK(tokens.sort(args.token_ids, stream));
    find_starts<<<blocks, kThreads, 0, stream>>>(tokens);
    check_launch("embedding_backward");
    dispatch_width(fits_width(args.doutput), [&](auto width) {
      add_tokens<width, T>
          <<<static_cast<unsigned>(args.dtable.rows), kThreads, 0, stream>>>(args, tokens);
      check_launch("embedding_backward");
    });
  });
}

std::int64_t embedding_backward_workspace_bytes(const Launch&, const EmbeddingBackwardArgs& args) {
  return SortedTokens(args).bytes;
}

}  // namespace smoe::kernels::cuda
