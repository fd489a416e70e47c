// Embedding. The backward sorts token positions stably by id, so that the tokens of a row of the
// table are a run. Thread blocks take windows of equal length, so that a frequent token takes no
// longer than others: runs inside a window are added to their rows at once, parts of longer ones
// later. The order depends only on the ids.
#include "kernels/embedding.h"

#include <bit>
#include <cub/device/device_radix_sort.cuh>

#include "kernels/cuda/device/checked_index.cuh"
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

constexpr int kWindow = 64;  // sorted tokens

// The backward's workspace: arrays one after another.
struct SortedTokens {
  std::int64_t num_tokens, num_rows, num_windows, width;
  std::uint32_t* ids;       // [T], sorted
  std::int32_t* unsorted;   // [T]: 0, 1, ...
  std::int32_t* positions;  // [T]: the token position of each sorted id
  float* partials;          // [windows, 2, D]: sums of the parts of runs that cross windows
  void* sort_workspace;
  std::size_t sort_bytes = 0;
  std::int64_t bytes;

  SortedTokens(const Launch& launch, const EmbeddingBackwardArgs& args)
      : num_tokens(args.doutput.rows),
        num_rows(args.dtable.rows),
        num_windows(ceil_div(num_tokens, kWindow)),
        width(args.dtable.cols) {
    auto* next = static_cast<std::byte*>(args.workspace);
    const auto take = [&](std::int64_t size) {
      std::byte* const taken = next;
      next += ceil_div(size, 256) * 256;
      return taken;
    };
    ids = reinterpret_cast<std::uint32_t*>(take(4 * num_tokens));
    unsorted = reinterpret_cast<std::int32_t*>(take(4 * num_tokens));
    positions = reinterpret_cast<std::int32_t*>(take(4 * num_tokens));
    partials = reinterpret_cast<float*>(take(2 * 4 * num_windows * width));
    sort_workspace = nullptr;
    if (launch.device.is_dry())
      sort_bytes = 2 * 4 * num_tokens;  // CUB asks the device; this holds a copy of both columns
    else
      CUDA_CHECK(sort(nullptr, nullptr));
    sort_workspace = take(static_cast<std::int64_t>(sort_bytes));
    bytes = next - static_cast<std::byte*>(args.workspace);
  }

  // The part of a run that continues from the window before; of one that only continues in the
  // next.
  __device__ float* head_of(std::int64_t window) const { return partials + 2 * window * width; }
  __device__ float* tail_of(std::int64_t window) const { return head_of(window) + width; }

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

// dtable = beta dtable. W stores dtable.
template <int N, class W>
__global__ void __launch_bounds__(kThreads)
    embedding_backward_scale_kernel(Matrix dtable, std::int64_t num_chunks, float beta) {
  const std::int64_t at = std::int64_t{blockIdx.x} * kThreads + threadIdx.x;
  if (at >= num_chunks * dtable.rows) return;
  W* const target = row_of<W>(dtable, at / num_chunks) + at % num_chunks * N;
  float x[N] = {};
  if (beta != 0) load(target, x);
#pragma unroll
  for (int i = 0; i < N; ++i) x[i] *= beta;
  store(target, x);
}

template <int N, class W>
__device__ void add_to(W* target, const float (&x)[N]) {
  float sum[N];
  load(target, sum);
#pragma unroll
  for (int i = 0; i < N; ++i) sum[i] += x[i];
  store(target, sum);
}

constexpr int kSumThreads = 128;

// Adds up the runs of a window, N columns per thread.
template <int N, class T, class W>
__global__ void __launch_bounds__(kSumThreads)
    embedding_backward_kernel(EmbeddingBackwardArgs args, SortedTokens tokens) {
  constexpr int kBatch = 8;                  // tokens that are read before the first is added
  __shared__ std::int64_t ids[kWindow + 2];  // with those before and after; none: -1
  __shared__ std::int32_t positions[kWindow];
  const std::int64_t window = blockIdx.x, begin = window * kWindow;
  const int count = static_cast<int>(min(std::int64_t{kWindow}, tokens.num_tokens - begin));
  for (int i = threadIdx.x; i < count + 2; i += kSumThreads) {
    const std::int64_t at = begin + i - 1;
    ids[i] = at >= 0 && at < tokens.num_tokens ? std::int64_t{tokens.ids[at]} : -1;
  }
  for (int i = threadIdx.x; i < count; i += kSumThreads) positions[i] = tokens.positions[begin + i];
  __syncthreads();
  const std::int64_t column = (std::int64_t{blockIdx.y} * kSumThreads + threadIdx.x) * N;
  if (column >= args.dtable.cols) return;
  bool is_head = ids[0] == ids[1];
  float sum[N] = {};
  for (int first = 0; first < count; first += kBatch) {
    float x[kBatch][N] = {};
#pragma unroll
    for (int k = 0; k < kBatch; ++k)
      if (first + k < count) load(row_of<T>(args.doutput, positions[first + k]) + column, x[k]);
#pragma unroll
    for (int k = 0; k < kBatch; ++k) {
      const int i = first + k;
      if (i >= count) break;
#pragma unroll
      for (int j = 0; j < N; ++j) sum[j] += x[k][j];
      const bool continues = ids[i + 1] == ids[i + 2];
      if (continues && i + 1 < count) continue;
      if (is_head)
        store(tokens.head_of(window) + column, sum);
      else if (continues)
        store(tokens.tail_of(window) + column, sum);
      else
        add_to(row_of<W>(args.dtable, ids[i + 1]) + column, sum);
      is_head = false;
#pragma unroll
      for (int j = 0; j < N; ++j) sum[j] = 0;
    }
  }
}

// Adds up the parts of the run that begins in a window and ends in a later one, if there is one.
template <int N, class W>
__global__ void __launch_bounds__(kSumThreads)
    embedding_backward_parts_kernel(EmbeddingBackwardArgs args, SortedTokens tokens) {
  const std::int64_t window = blockIdx.x, next = (window + 1) * kWindow;
  if (next >= tokens.num_tokens) return;
  const std::uint32_t id = tokens.ids[next];
  const bool begins_before = window > 0 && tokens.ids[window * kWindow - 1] == id;
  if (tokens.ids[next - 1] != id || begins_before) return;
  std::int64_t last = window + 1,
               end = tokens.num_windows;  // the run's last window is in [last, end)
  while (last + 1 < end) {
    const std::int64_t middle = (last + end) / 2;
    (tokens.ids[middle * kWindow] == id ? last : end) = middle;
  }
  const std::int64_t column = (std::int64_t{blockIdx.y} * kSumThreads + threadIdx.x) * N;
  if (column >= args.dtable.cols) return;
  float sum[N];
  load(tokens.tail_of(window) + column, sum);
#pragma unroll 8
  for (std::int64_t i = window + 1; i <= last; ++i) {
    float part[N];
    load(tokens.head_of(i) + column, part);
#pragma unroll
    for (int j = 0; j < N; ++j) sum[j] += part[j];
  }
  add_to(row_of<W>(args.dtable, id) + column, sum);
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

namespace {

// T stores doutput, W dtable.
template <class T, class W>
void run_backward(const Launch& launch, const EmbeddingBackwardArgs& args) {
  const std::int64_t rows = args.dtable.rows, width = args.dtable.cols;
  if (rows == 0 || width == 0) return;
  SortedTokens tokens(launch, args);
  const auto stream = stream_of(launch);
  const bool fits = fits_width(args.doutput) && fits_width(args.dtable);
  dispatch_width(fits, [&](auto n) {
    if (args.beta != 1)
      embedding_backward_scale_kernel<n, W>
          <<<static_cast<unsigned>(ceil_div(rows * width / n, kThreads)), kThreads, 0, stream>>>(
              args.dtable, width / n, static_cast<float>(args.beta));
    check_launch("embedding_backward");
    if (tokens.num_tokens == 0) return;
    embedding_backward_positions_kernel<<<
        static_cast<unsigned>(ceil_div(tokens.num_tokens, kThreads)), kThreads, 0, stream>>>(
        tokens);
    check_launch("embedding_backward");
    CUDA_CHECK(tokens.sort(args.token_ids, stream));
    const dim3 blocks(static_cast<unsigned>(tokens.num_windows),
                      static_cast<unsigned>(ceil_div(width, std::int64_t{kSumThreads} * n)));
    embedding_backward_kernel<n, T, W><<<blocks, kSumThreads, 0, stream>>>(args, tokens);
    embedding_backward_parts_kernel<n, W><<<blocks, kSumThreads, 0, stream>>>(args, tokens);
    check_launch("embedding_backward");
  });
}

}  // namespace

void embedding_backward(const Launch& launch, const EmbeddingBackwardArgs& args) {
  constexpr const char* kOp = "embedding_backward";
  dispatch_storage(kOp, args.doutput.dtype, [&](auto type) {
    dispatch_storage(kOp, args.dtable.dtype, [&](auto stored) {
      run_backward<decltype(type), decltype(stored)>(launch, args);
    });
  });
}

std::int64_t embedding_backward_workspace_bytes(const Launch& launch,
                                                const EmbeddingBackwardArgs& args) {
  return SortedTokens(launch, args).bytes;
}

}  // namespace smoe::kernels::cuda
