// Attention in blocks of queries x keys, with a running maximum and sum per query over the blocks
// of keys (arXiv:1805.02867, arXiv:2205.14135). A forward task is one (sequence, head, block of
// queries); a backward task is one (sequence, key head), whose dK and dV it accumulates in scratch.
// Scratch per thread: one block of scores in the forward; two blocks and 2 S C elements in the
// backward.
#include "kernels/attention.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "kernels/attention_order.h"
#include "kernels/ceil_div.h"
#include "kernels/cpu/blas.h"
#include "kernels/cpu/math.h"
#include "kernels/cpu/panel.h"
#include "kernels/cpu/threads.h"

namespace smoe::kernels::cpu {
namespace {

constexpr std::int64_t kQueries = 64;
constexpr std::int64_t kKeys = 256;
// Without a cache, a block of keys then never starts after the first query that reads it: each of
// these queries attends to at least one key of the block.
static_assert(kKeys % kQueries == 0);

// Scratch per thread in the forward.
template <class Acc>
struct ForwardScratch {
  ForwardScratch(Scratch& scratch, const AttentionShape& shape)
      : scores(scratch.take<Acc>(kQueries * std::min(kKeys, shape.seq_len))),
        sum(scratch.take<Acc>(kQueries * shape.head_dim)),
        maximum(scratch.take<Acc>(kQueries)),
        denominator(scratch.take<Acc>(kQueries)) {}

  Acc* scores;       // [queries, keys]
  Acc* sum;          // [queries, C]: sum_j exp(s_ij - maximum_i) v_j
  Acc* maximum;      // [queries]
  Acc* denominator;  // [queries]: sum_j exp(s_ij - maximum_i)
};

// Scratch per thread in the backward.
template <class Acc>
struct BackwardScratch {
  BackwardScratch(Scratch& scratch, const AttentionShape& shape)
      : p(scratch.take<Acc>(kQueries * std::min(kKeys, shape.seq_len))),
        ds(scratch.take<Acc>(kQueries * std::min(kKeys, shape.seq_len))),
        dq(scratch.take<Acc>(kQueries * shape.head_dim)),
        dk(scratch.take<Acc>(shape.seq_len * shape.head_dim)),
        dv(scratch.take<Acc>(shape.seq_len * shape.head_dim)),
        delta(scratch.take<Acc>(kQueries)) {}

  Acc *p, *ds;   // [queries, keys]
  Acc* dq;       // [queries, C]
  Acc *dk, *dv;  // [S, C]
  Acc* delta;    // [queries]: rowsum(dO O)
};

// Scratch per thread for operands whose storage dtype is not the dtype that GEMMs compute in.
template <class Acc>
struct Conversions {
  Conversions(Scratch& scratch, const AttentionShape& shape, DType dtype) {
    if (dtype == dtype_of<Acc>) return;
    q = scratch.take<Acc>(kQueries * shape.head_dim);
    doutput = scratch.take<Acc>(kQueries * shape.head_dim);
    k = scratch.take<Acc>(kKeys * shape.head_dim);
    v = scratch.take<Acc>(kKeys * shape.head_dim);
  }

  Acc *q = nullptr, *doutput = nullptr;  // [queries, C]
  Acc *k = nullptr, *v = nullptr;        // [keys, C]
};

// All scratch of one thread. Scratch is ForwardScratch or BackwardScratch.
template <class Scratch, class Acc>
struct ThreadMemory {
  cpu::Scratch pieces;
  Scratch scratch;
  Conversions<Acc> conversions;

  ThreadMemory(std::byte* base, const AttentionShape& shape, DType dtype)
      : pieces(base), scratch(pieces, shape), conversions(pieces, shape, dtype) {}

  static std::int64_t bytes(const AttentionShape& shape, DType dtype) {
    return ThreadMemory(nullptr, shape, dtype).pieces.bytes();
  }
  static ThreadMemory of_thread(int thread, void* workspace, const AttentionShape& shape,
                                DType dtype) {
    return {static_cast<std::byte*>(workspace) + thread * bytes(shape, dtype), shape, dtype};
  }
};

// Positions [begin, end) of a sequence whose first row is `first_row`, in columns
// [column, column + width), as a GEMM operand in Acc.
template <class Acc>
BlasOperand<Acc> operand_of(const ConstMatrix& m, std::int64_t first_row, std::int64_t begin,
                            std::int64_t end, std::int64_t column, std::int64_t width,
                            Acc* scratch) {
  const auto panel =
      load_panel<Acc>(m, {first_row + begin, first_row + end, column, column + width}, scratch);
  return {panel.data, panel.stride};
}

// Offsets of one query head of one sequence and of the key head that it attends to.
struct Head {
  std::int64_t first_row;  // of the sequence, in [T, ...]
  std::int64_t q;          // first column in q
  std::int64_t k, v;       // first columns in kv
  std::int64_t output;     // first column in the output
  std::int64_t logsumexp;  // first element
  std::int64_t width;      // C

  Head(const AttentionShape& shape, std::int64_t sequence, std::int64_t head)
      : first_row(sequence * shape.seq_len),
        q(head * shape.head_dim),
        k(shape.kv_head_of(head) * shape.head_dim),
        v(k + shape.num_kv_heads * shape.head_dim),
        output(q),
        logsumexp(first_query_number(shape, sequence, head)),
        width(shape.head_dim) {}

  // Positions [begin, end) in columns [column, column + C), as a GEMM operand in Acc.
  template <class Acc>
  BlasOperand<Acc> operand(const ConstMatrix& m, std::int64_t begin, std::int64_t end,
                           std::int64_t column, Acc* scratch) const {
    return operand_of(m, first_row, begin, end, column, width, scratch);
  }
  // Writes factor * source [end - begin, C] to the same place.
  template <class T, class Acc>
  void store(const Acc* source, Acc factor, const Matrix& m, std::int64_t begin, std::int64_t end,
             std::int64_t column) const {
    for (std::int64_t i = begin; i < end; ++i, source += width) {
      T* target = m.row<T>(first_row + i) + column;
      for (std::int64_t c = 0; c < width; ++c) target[c] = T(factor * source[c]);
    }
  }
};

// The keys and values that the queries of one head attend to.
struct KeysAndValues {
  ConstMatrix rows;
  std::int64_t first_row;  // of the sequence
  std::int64_t k, v;       // first columns
  std::int64_t before;     // rows before the first query, which attends to before + 1 keys
};

template <class Acc>
BlasOperand<Acc> transposed(BlasOperand<Acc> operand) {
  operand.transpose = !operand.transpose;
  return operand;
}

template <class Acc>
Acc score_scale(std::int64_t head_dim) {
  return Acc(1 / std::sqrt(double(head_dim)));
}

template <class Acc>
Acc maximum_of(const Acc* row, std::int64_t n) {
  Acc maximum = -std::numeric_limits<Acc>::infinity();
#pragma omp simd reduction(max : maximum)
  for (std::int64_t j = 0; j < n; ++j) maximum = row[j] > maximum ? row[j] : maximum;
  return maximum;
}

// Replaces the first n raw scores s of a row by exp(scale s - maximum), rounded to T because a GEMM
// in T reads them; returns their sum before the rounding.
template <class T, class Acc>
Acc exponentiate(Acc* row, std::int64_t n, Acc scale, Acc maximum) {
  Acc sum = 0;
#pragma omp simd reduction(+ : sum)
  for (std::int64_t j = 0; j < n; ++j) {
    const Acc p = exp(row[j] * scale - maximum);
    sum += p;
    row[j] = Acc(T(p));
  }
  return sum;
}

// Computes the output of queries [q0, q1) of one head, and their logsumexp unless it is null.
template <class T, class Acc>
void forward_block(const ConstMatrix& queries, const KeysAndValues& seen, const Matrix& output,
                   Acc* logsumexp, const Head& head, std::int64_t q0, std::int64_t q1,
                   const ThreadMemory<ForwardScratch<Acc>, Acc>& memory) {
  const auto& [scores, sum, maximum, denominator] = memory.scratch;
  const std::int64_t num_queries = q1 - q0, width = head.width;
  const Acc scale = score_scale<Acc>(width);
  const BlasOperand<Acc> q = head.operand(queries, q0, q1, head.q, memory.conversions.q);
  std::fill_n(maximum, num_queries, -std::numeric_limits<Acc>::infinity());
  std::fill_n(denominator, num_queries, Acc(0));
  for (std::int64_t k0 = 0; k0 < seen.before + q1; k0 += kKeys) {
    const std::int64_t k1 = std::min(k0 + kKeys, seen.before + q1), num_keys = k1 - k0;
    const BlasOperand<Acc> k =
        operand_of(seen.rows, seen.first_row, k0, k1, seen.k, width, memory.conversions.k);
    const BlasOperand<Acc> v =
        operand_of(seen.rows, seen.first_row, k0, k1, seen.v, width, memory.conversions.v);
    blas_gemm(num_queries, num_keys, width, q, transposed(k), Acc(0), scores, num_keys);
    for (std::int64_t i = 0; i < num_queries; ++i) {
      Acc* row = scores + i * num_keys;
      // 0 for the first queries in the last block if the cached rows are not whole blocks.
      const std::int64_t num_seen =
          std::max<std::int64_t>(std::min(seen.before + q0 + i + 1, k1) - k0, 0);
      const Acc before = maximum[i];
      maximum[i] = std::max(before, scale * maximum_of(row, num_seen));
      const Acc shrink = k0 > 0 ? std::exp(before - maximum[i]) : Acc(0);
      denominator[i] = shrink * denominator[i] + exponentiate<T>(row, num_seen, scale, maximum[i]);
      std::fill(row + num_seen, row + num_keys, Acc(0));
      if (k0 > 0)
        for (std::int64_t c = 0; c < width; ++c) sum[i * width + c] *= shrink;
    }
    blas_gemm(num_queries, width, num_keys, {scores, num_keys}, v, k0 > 0 ? Acc(1) : Acc(0), sum,
              width);
  }
  for (std::int64_t i = 0; i < num_queries; ++i) {
    head.store<T>(sum + i * width, 1 / denominator[i], output, q0 + i, q0 + i + 1, head.output);
    if (logsumexp) logsumexp[head.logsumexp + q0 + i] = maximum[i] + std::log(denominator[i]);
  }
}

// Calls f(sequence, head, q0, q1, thread) for each block of queries of each head.
template <class F>
void for_each_block(const AttentionShape& shape, F&& f) {
  const std::int64_t num_heads = shape.batch * shape.num_heads;
  const std::int64_t num_blocks = ceil_div(shape.seq_len, kQueries);
  parallel_for(num_heads * num_blocks, [&](std::int64_t task, int thread) {
    // The last queries attend to the most keys: they run first, to balance the threads.
    const std::int64_t q0 = (num_blocks - 1 - task / num_heads) * kQueries;
    const std::int64_t sequence = task % num_heads / shape.num_heads;
    const std::int64_t head = task % num_heads % shape.num_heads;
    f(sequence, head, q0, std::min(q0 + kQueries, shape.seq_len), thread);
  });
}

// The shape that determines the size of scratch: with all keys that the last query attends to.
AttentionShape with_all_keys(const CachedAttentionArgs& args) {
  AttentionShape shape = args.shape;
  shape.seq_len += args.num_cached;
  return shape;
}

// Appends the keys and values of the new rows to the cache.
template <class T>
void append_to_cache(const CachedAttentionArgs& args) {
  const AttentionShape& shape = args.shape;
  for (std::int64_t row = 0; row < shape.num_tokens(); ++row) {
    const T* source = args.kv.row<T>(row);
    const std::int64_t sequence = row / shape.seq_len, position = row % shape.seq_len;
    std::copy_n(source, args.cache.cols,
                args.cache.row<T>(sequence * args.capacity + args.num_cached + position));
  }
}

// Replaces the first n raw scores of a row by probabilities, and dO V^T in `ds` by the gradient of
// the scaled scores, both rounded to T. The other elements of the row become zero.
template <class T, class Acc>
void backward_row(Acc* p, Acc* ds, std::int64_t n, std::int64_t num_keys, Acc scale, Acc logsumexp,
                  Acc delta) {
#pragma omp simd
  for (std::int64_t j = 0; j < n; ++j) {
    const Acc probability = exp(p[j] * scale - logsumexp);
    ds[j] = Acc(T(probability * (ds[j] - delta)));
    p[j] = Acc(T(probability));
  }
  std::fill(p + n, p + num_keys, Acc(0));
  std::fill(ds + n, ds + num_keys, Acc(0));
}

// Computes dQ of queries [q0, q1) of one head and adds their terms of dK and dV to scratch.
template <class T, class Acc>
void backward_block(const AttentionBackwardArgs& args, const Head& head, std::int64_t q0,
                    std::int64_t q1, const ThreadMemory<BackwardScratch<Acc>, Acc>& memory) {
  const auto& [p, ds, dq, dk, dv, delta] = memory.scratch;
  const Conversions<Acc>& conversions = memory.conversions;
  const std::int64_t num_queries = q1 - q0, width = head.width;
  const Acc scale = score_scale<Acc>(width);
  const Acc* logsumexp = static_cast<const Acc*>(args.logsumexp) + head.logsumexp;
  const BlasOperand<Acc> q = head.operand(args.q, q0, q1, head.q, conversions.q);
  const BlasOperand<Acc> doutput =
      head.operand(args.doutput, q0, q1, head.output, conversions.doutput);
  for (std::int64_t i = 0; i < num_queries; ++i) {
    const T* output = args.output.row<T>(head.first_row + q0 + i) + head.output;
    const Acc* gradient = doutput.data + i * doutput.stride;
    Acc dot = 0;
#pragma omp simd reduction(+ : dot)
    for (std::int64_t c = 0; c < width; ++c) dot += gradient[c] * Acc(output[c]);
    delta[i] = dot;
  }
  for (std::int64_t k0 = 0; k0 < q1; k0 += kKeys) {
    const std::int64_t k1 = std::min(k0 + kKeys, q1), num_keys = k1 - k0;
    const BlasOperand<Acc> k = head.operand(args.kv, k0, k1, head.k, conversions.k);
    const BlasOperand<Acc> v = head.operand(args.kv, k0, k1, head.v, conversions.v);
    blas_gemm(num_queries, num_keys, width, q, transposed(k), Acc(0), p, num_keys);
    blas_gemm(num_queries, num_keys, width, doutput, transposed(v), Acc(0), ds, num_keys);
    for (std::int64_t i = 0; i < num_queries; ++i)
      backward_row<T>(p + i * num_keys, ds + i * num_keys, std::min(q0 + i + 1, k1) - k0, num_keys,
                      scale, logsumexp[q0 + i], delta[i]);
    blas_gemm(num_keys, width, num_queries, {p, num_keys, true}, doutput, Acc(1), dv + k0 * width,
              width);
    blas_gemm(num_keys, width, num_queries, {ds, num_keys, true}, q, Acc(1), dk + k0 * width,
              width);
    blas_gemm(num_queries, width, num_keys, {ds, num_keys}, k, k0 > 0 ? Acc(1) : Acc(0), dq, width);
  }
  // These queries are not read again, so dq may alias q.
  head.store<T>(dq, scale, args.dq, q0, q1, head.q);
}

}  // namespace

void attention(const Launch&, const AttentionArgs& args) {
  dispatch_floating(args.q.dtype, [&](auto type) {
    using T = decltype(type);
    using Acc = accumulation_t<T>;
    using Memory = ThreadMemory<ForwardScratch<Acc>, Acc>;
    for_each_block(args.shape, [&](std::int64_t sequence, std::int64_t h, std::int64_t q0,
                                   std::int64_t q1, int thread) {
      const Head head(args.shape, sequence, h);
      forward_block<T>(args.q, {args.kv, head.first_row, head.k, head.v, 0}, args.output,
                       static_cast<Acc*>(args.logsumexp), head, q0, q1,
                       Memory::of_thread(thread, args.workspace, args.shape, args.q.dtype));
    });
  });
}

std::int64_t attention_workspace_bytes(const Launch&, const AttentionArgs& args) {
  return dispatch_floating(args.q.dtype, [&](auto type) {
    using Acc = accumulation_t<decltype(type)>;
    return num_threads() * ThreadMemory<ForwardScratch<Acc>, Acc>::bytes(args.shape, args.q.dtype);
  });
}

void cached_attention(const Launch&, const CachedAttentionArgs& args) {
  dispatch_floating(args.q.dtype, [&](auto type) {
    using T = decltype(type);
    using Acc = accumulation_t<T>;
    using Memory = ThreadMemory<ForwardScratch<Acc>, Acc>;
    append_to_cache<T>(args);
    const AttentionShape scratch_shape = with_all_keys(args);
    for_each_block(args.shape, [&](std::int64_t sequence, std::int64_t h, std::int64_t q0,
                                   std::int64_t q1, int thread) {
      const Head head(args.shape, sequence, h);
      const KeysAndValues seen{args.cache, sequence * args.capacity, head.k, head.v,
                               args.num_cached};
      forward_block<T>(args.q, seen, args.output, static_cast<Acc*>(nullptr), head, q0, q1,
                       Memory::of_thread(thread, args.workspace, scratch_shape, args.q.dtype));
    });
  });
}

std::int64_t cached_attention_workspace_bytes(const Launch&, const CachedAttentionArgs& args) {
  return dispatch_floating(args.q.dtype, [&](auto type) {
    using Acc = accumulation_t<decltype(type)>;
    return num_threads() *
           ThreadMemory<ForwardScratch<Acc>, Acc>::bytes(with_all_keys(args), args.q.dtype);
  });
}

void attention_backward(const Launch&, const AttentionBackwardArgs& args) {
  dispatch_floating(args.q.dtype, [&](auto type) {
    using T = decltype(type);
    using Acc = accumulation_t<T>;
    const AttentionShape& shape = args.shape;
    parallel_for(shape.batch * shape.num_kv_heads, [&](std::int64_t task, int thread) {
      const auto memory = ThreadMemory<BackwardScratch<Acc>, Acc>::of_thread(thread, args.workspace,
                                                                             shape, args.q.dtype);
      const std::int64_t sequence = task / shape.num_kv_heads;
      const std::int64_t kv_head = task % shape.num_kv_heads;
      const auto& [p, ds, dq, dk, dv, delta] = memory.scratch;
      std::fill_n(dk, shape.seq_len * shape.head_dim, Acc(0));
      std::fill_n(dv, shape.seq_len * shape.head_dim, Acc(0));
      for (std::int64_t i = 0; i < shape.group_size(); ++i)
        for (std::int64_t q0 = 0; q0 < shape.seq_len; q0 += kQueries)
          backward_block<T>(args, Head(shape, sequence, shape.head_of(kv_head, i)), q0,
                            std::min(q0 + kQueries, shape.seq_len), memory);
      const Head head(shape, sequence, shape.head_of(kv_head, 0));
      head.store<T>(dk, score_scale<Acc>(shape.head_dim), args.dkv, 0, shape.seq_len, head.k);
      head.store<T>(dv, Acc(1), args.dkv, 0, shape.seq_len, head.v);
    });
  });
}

std::int64_t attention_backward_workspace_bytes(const Launch&, const AttentionBackwardArgs& args) {
  return dispatch_floating(args.q.dtype, [&](auto type) {
    using Acc = accumulation_t<decltype(type)>;
    return num_threads() * ThreadMemory<BackwardScratch<Acc>, Acc>::bytes(args.shape, args.q.dtype);
  });
}

bool attention_backward_is_in_place(const Launch&, const AttentionBackwardArgs&) {
  return true;
}

}  // namespace smoe::kernels::cpu
