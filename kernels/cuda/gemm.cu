// Dense GEMMs by cuBLASLt, with two bf16 or two f32 operands. If one operand is f32 and the other
// bf16, or if the result is rounded to bf16, f32 operands are split into sums of bf16 parts and
// multiplied on tensor cores; any other combination is computed in f32.
#include "kernels/gemm.h"

#include "kernels/cuda/cublaslt.h"
#include "kernels/cuda/device/bf16_parts.cuh"
#include "kernels/cuda/device/vector.cuh"
#include "kernels/cuda/launch.cuh"

namespace smoe::kernels::cuda {
namespace {

constexpr int kThreads = 256;

// target = source + beta target, in f32 and rounded once; a null source is zero. One thread per N
// elements of a row.
template <int N, class S, class T>
__global__ void __launch_bounds__(kThreads)
    gemm_add_kernel(ConstMatrix source, Matrix target, std::int64_t chunks_per_row, float beta) {
  const std::int64_t at = std::int64_t{blockIdx.x} * kThreads + threadIdx.x;
  if (at >= target.rows * chunks_per_row) return;
  const std::int64_t i = at / chunks_per_row, j = at % chunks_per_row * N;
  float x[N] = {}, before[N];
  if (source.data) load(row_of<S>(source, i) + j, x);
  if (beta != 0) {
    load(row_of<T>(target, i) + j, before);
#pragma unroll
    for (int k = 0; k < N; ++k) x[k] += beta * before[k];
  }
  store(row_of<T>(target, i) + j, x);
}

// Writes source + beta target to target; beta == 0 never reads it.
void add_matrix(const Launch& launch, const ConstMatrix& source, const Matrix& target,
                double beta) {
  if (target.rows == 0 || target.cols == 0) return;
  dispatch_storage("gemm", source.dtype, [&](auto source_type) {
    dispatch_storage("gemm", target.dtype, [&](auto target_type) {
      using S = decltype(source_type);
      using T = decltype(target_type);
      dispatch_width(fits_width(source) && fits_width(target), [&](auto width) {
        const std::int64_t chunks = target.cols / width;
        gemm_add_kernel<width, S, T>
            <<<static_cast<unsigned>(ceil_div(target.rows * chunks, kThreads)), kThreads, 0,
               stream_of(launch)>>>(source, target, chunks, static_cast<float>(beta));
        check_launch("gemm");
      });
    });
  });
}

// The dtypes that cuBLASLt gets, possibly of copies. It rounds op(a) op(b) to a bf16 c's dtype
// before it adds beta c, so with beta it gets an f32 copy.
struct Dtypes {
  DType operands, c;

  explicit Dtypes(const GemmArgs& args)
      : operands(args.a.dtype == DType::bf16 && args.b.dtype == DType::bf16 ? DType::bf16
                                                                            : DType::f32),
        c(operands == DType::bf16 && args.beta == 0 ? args.c.dtype : DType::f32) {}
};

// The workspace: cuBLASLt's, then copies of the matrices whose dtype must change.
struct Copies {
  Matrix a, b, c;
  std::int64_t bytes = kCublasltWorkspaceBytes;

  explicit Copies(const GemmArgs& args) {
    const Dtypes dtypes(args);
    a = take(args, args.a, dtypes.operands);
    b = take(args, args.b, dtypes.operands);
    c = take(args, args.c, dtypes.c);
  }

 private:
  Matrix take(const GemmArgs& args, const ConstMatrix& m, DType dtype) {
    if (m.dtype == dtype) return {const_cast<void*>(m.data), m.dtype, m.rows, m.cols, m.stride};
    void* const memory = static_cast<std::byte*>(args.workspace) + bytes;
    bytes += ceil_div(m.rows * m.cols * size_of(dtype), 256) * 256;
    return {memory, dtype, m.rows, m.cols, m.cols};
  }
};

void check_args(const GemmArgs& args) {
  for (const DType dtype : {args.a.dtype, args.b.dtype, args.c.dtype})
    SMOE_CHECK(dtype == DType::f32 || dtype == DType::bf16,
               "gemm: dtype must be f32 or bf16 on a GPU; got ", name_of(dtype));
  const std::int64_t m = args.transpose_a ? args.a.cols : args.a.rows;
  const std::int64_t k = args.transpose_a ? args.a.rows : args.a.cols;
  const std::int64_t n = args.transpose_b ? args.b.rows : args.b.cols;
  const std::int64_t b_k = args.transpose_b ? args.b.cols : args.b.rows;
  SMOE_INTERNAL_CHECK(m == args.c.rows && n == args.c.cols && k == b_k, "gemm: op(a) [", m, ", ", k,
                      "], op(b) [", b_k, ", ", n, "] and c [", args.c.rows, ", ", args.c.cols,
                      "] do not fit");
}

// c = beta c, for k == 0.
void scale_c(const Launch& launch, const GemmArgs& args) {
  ConstMatrix zeros = args.c;
  zeros.data = nullptr;
  if (args.beta != 1) add_matrix(launch, zeros, args.c, args.beta);
}

// GEMM of an f32 operand and a bf16 operand. The three bf16 parts of the f32 operand
// are concatenated along the dimension it shares with c, so that one GEMM computes the three parts
// of c.
struct SplitOperand {
  bool splits_a;
  Matrix parts, partial_c;
  std::int64_t bytes;

  explicit SplitOperand(const GemmArgs& args) : splits_a(args.a.dtype == DType::f32) {
    const ConstMatrix& split = splits_a ? args.a : args.b;
    const bool along_rows = splits_a ? !args.transpose_a : args.transpose_b;
    auto* memory = static_cast<std::byte*>(args.workspace) + kCublasltWorkspaceBytes;
    parts = stacked(memory, DType::bf16, split, along_rows, 3);
    const std::int64_t parts_bytes = padded_bytes(parts);
    partial_c = stacked(memory + parts_bytes, DType::f32, args.c, splits_a, 3);
    bytes = kCublasltWorkspaceBytes + parts_bytes + padded_bytes(partial_c);
  }

  void run(const Launch& launch, const GemmArgs& args) const {
    split_bf16_parts(launch, splits_a ? args.a : args.b, parts, {3, {0, 1, 2}});
    cublaslt_gemm(launch,
                  {splits_a ? parts : args.a, splits_a ? args.b : parts, args.transpose_a,
                   args.transpose_b, partial_c, 0},
                  args.workspace);
    add_bf16_parts(launch, partial_c, args.c, static_cast<float>(args.beta));
  }
};

// GEMM of two f32 operands whose result is rounded to bf16. Of the nine products of their parts it
// computes the six that are not below f32 precision, a_0 b_0 + a_1 b_0 + a_0 b_1 + ..., as one GEMM
// with 6 k terms.
struct SplitBoth {
  Matrix a, b;
  std::int64_t bytes;

  explicit SplitBoth(const GemmArgs& args) {
    auto* memory = static_cast<std::byte*>(args.workspace) + kCublasltWorkspaceBytes;
    a = stacked(memory, DType::bf16, args.a, args.transpose_a, 6);
    b = stacked(memory + padded_bytes(a), DType::bf16, args.b, !args.transpose_b, 6);
    bytes = kCublasltWorkspaceBytes + padded_bytes(a) + padded_bytes(b);
  }

  void run(const Launch& launch, const GemmArgs& args) const {
    split_bf16_parts(launch, args.a, a, {6, {0, 1, 0, 2, 1, 0}});
    split_bf16_parts(launch, args.b, b, {6, {0, 0, 1, 0, 1, 2}});
    cublaslt_gemm(launch, {a, b, args.transpose_a, args.transpose_b, args.c, 0}, args.workspace);
  }
};

bool splits_one(const GemmArgs& args) {
  return args.a.dtype != args.b.dtype;
}
bool splits_both(const GemmArgs& args) {
  return args.a.dtype == DType::f32 && args.b.dtype == DType::f32 && args.c.dtype == DType::bf16 &&
         args.beta == 0;
}

void run_on_copies(const Launch& launch, const GemmArgs& args) {
  const Copies copies(args);
  const bool converts_c = copies.c.dtype != args.c.dtype;
  if (copies.a.dtype != args.a.dtype) add_matrix(launch, args.a, copies.a, 0);
  if (copies.b.dtype != args.b.dtype) add_matrix(launch, args.b, copies.b, 0);
  cublaslt_gemm(launch,
                {copies.a, copies.b, args.transpose_a, args.transpose_b, copies.c,
                 converts_c ? 0 : static_cast<float>(args.beta)},
                args.workspace);
  if (converts_c) add_matrix(launch, copies.c, args.c, args.beta);
}

}  // namespace

std::int64_t gemm_workspace_bytes(const Launch&, const GemmArgs& args) {
  if (splits_one(args)) return SplitOperand(args).bytes;
  if (splits_both(args)) return SplitBoth(args).bytes;
  return Copies(args).bytes;
}

void gemm(const Launch& launch, const GemmArgs& args) {
  check_args(args);
  if (args.c.rows == 0 || args.c.cols == 0) return;
  if (args.a.rows == 0 || args.a.cols == 0) return scale_c(launch, args);
  if (splits_one(args)) return SplitOperand(args).run(launch, args);
  if (splits_both(args)) return SplitBoth(args).run(launch, args);
  run_on_copies(launch, args);
}

}  // namespace smoe::kernels::cuda
