// Dense products by cuBLASLt. It knows columns first, so it is asked for c^T = op(b)^T op(a)^T.
// Two bf16 operands go in as they are; any other pair is computed in f32 (never TF32), from copies
// of what is bf16. Algorithms whose sums depend on timing are ruled out.
#include "kernels/gemm.h"

#include <cublasLt.h>

#include <array>
#include <map>
#include <mutex>

#include "kernels/cuda/common.cuh"

namespace smoe::kernels::cuda {
namespace {

// What NVIDIA recommends for Hopper.
constexpr std::int64_t kLibraryBytes = std::int64_t{32} << 20;
constexpr int kThreads = 256;

void check(cublasStatus_t status, const char* call) {
  if (status != CUBLAS_STATUS_SUCCESS)
    throw SystemError(concat("gemm: ", call, " failed: ", cublasLtGetStatusName(status), ": ",
                             cublasLtGetStatusString(status)));
}
#define SMOE_CUBLAS_CHECK(call) check((call), #call)

cudaDataType_t data_type(DType dtype) {
  return dtype == DType::bf16 ? CUDA_R_16BF : CUDA_R_32F;
}

// Largest power of two, at most 256, that divides both.
std::uint32_t alignment_of(const void* data, std::int64_t stride_bytes) {
  const auto bits = reinterpret_cast<std::uintptr_t>(data) |
                    static_cast<std::uintptr_t>(stride_bytes) | std::uintptr_t{256};
  return static_cast<std::uint32_t>(bits & -bits);
}

// A library's descriptor, destroyed with its scope.
template <class Handle, cublasStatus_t (*kDestroy)(Handle)>
struct Descriptor {
  Handle handle = nullptr;
  Descriptor() = default;
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;
  ~Descriptor() { kDestroy(handle); }
};

struct Layout : Descriptor<cublasLtMatrixLayout_t, cublasLtMatrixLayoutDestroy> {
  explicit Layout(const ConstMatrix& m) {
    SMOE_CUBLAS_CHECK(
        cublasLtMatrixLayoutCreate(&handle, data_type(m.dtype), m.cols, m.rows, m.stride));
  }
};

struct Operation : Descriptor<cublasLtMatmulDesc_t, cublasLtMatmulDescDestroy> {
  Operation(bool transpose_first, bool transpose_second) {
    SMOE_CUBLAS_CHECK(cublasLtMatmulDescCreate(&handle, CUBLAS_COMPUTE_32F, CUDA_R_32F));
    const cublasOperation_t first = transpose_first ? CUBLAS_OP_T : CUBLAS_OP_N;
    const cublasOperation_t second = transpose_second ? CUBLAS_OP_T : CUBLAS_OP_N;
    SMOE_CUBLAS_CHECK(
        cublasLtMatmulDescSetAttribute(handle, CUBLASLT_MATMUL_DESC_TRANSA, &first, sizeof first));
    SMOE_CUBLAS_CHECK(cublasLtMatmulDescSetAttribute(handle, CUBLASLT_MATMUL_DESC_TRANSB, &second,
                                                     sizeof second));
  }
};

struct Preference : Descriptor<cublasLtMatmulPreference_t, cublasLtMatmulPreferenceDestroy> {
  Preference() { SMOE_CUBLAS_CHECK(cublasLtMatmulPreferenceCreate(&handle)); }
  template <class T>
  void set(cublasLtMatmulPreferenceAttributes_t attribute, T value) {
    SMOE_CUBLAS_CHECK(
        cublasLtMatmulPreferenceSetAttribute(handle, attribute, &value, sizeof value));
  }
};

// A product as the library is asked for it: two operands of one dtype and c, none of them empty.
struct Product {
  ConstMatrix a, b;
  bool transpose_a, transpose_b;
  Matrix c;
  float beta;

  // All that the choice of an algorithm may depend on.
  using Key = std::array<std::int64_t, 14>;
  Key key(int device) const {
    return {device,
            c.rows,
            c.cols,
            transpose_a ? a.rows : a.cols,
            a.stride,
            b.stride,
            c.stride,
            transpose_a * 2 + transpose_b,
            static_cast<int>(a.dtype) * 16 + static_cast<int>(c.dtype),
            beta == 0,
            alignment(a),
            alignment(b),
            alignment(c),
            kLibraryBytes};
  }

  static std::uint32_t alignment(const ConstMatrix& m) {
    return alignment_of(m.data, m.stride * size_of(m.dtype));
  }
};

// One device's handle and the algorithms chosen so far.
class Library {
 public:
  static Library& get() {
    static Library& library = *new Library;
    return library;
  }

  void run(const Launch& launch, const Product& product, void* workspace) {
    const Operation operation(product.transpose_b, product.transpose_a);
    const Layout a(product.a), b(product.b), c(product.c);
    const cublasLtMatmulAlgo_t algorithm = choose(launch.device.index, product, operation, a, b, c);
    const float alpha = 1;
    SMOE_CUBLAS_CHECK(cublasLtMatmul(
        handle(launch.device.index), operation.handle, &alpha, product.b.data, b.handle,
        product.a.data, a.handle, &product.beta, product.c.data, c.handle, product.c.data, c.handle,
        &algorithm, workspace, kLibraryBytes, stream_of(launch)));
  }

 private:
  cublasLtHandle_t handle(int device) {
    const std::lock_guard lock(mutex_);
    cublasLtHandle_t& handle = handles_[device];
    if (!handle) SMOE_CUBLAS_CHECK(cublasLtCreate(&handle));
    return handle;
  }

  cublasLtMatmulAlgo_t choose(int device, const Product& product, const Operation& operation,
                              const Layout& a, const Layout& b, const Layout& c) {
    const cublasLtHandle_t library = handle(device);
    const std::lock_guard lock(mutex_);
    const auto key = product.key(device);
    if (const auto chosen = chosen_.find(key); chosen != chosen_.end()) return chosen->second;
    Preference preference;
    preference.set(CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, std::uint64_t{kLibraryBytes});
    // The parts of a long sum are added in f32, and not in place, where the order may be that in
    // which they finish.
    preference.set(CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK,
                   std::uint32_t{CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE});
    preference.set(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, Product::alignment(product.b));
    preference.set(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, Product::alignment(product.a));
    preference.set(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, Product::alignment(product.c));
    preference.set(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES, Product::alignment(product.c));
    cublasLtMatmulHeuristicResult_t best;
    int num_found = 0;
    SMOE_CUBLAS_CHECK(cublasLtMatmulAlgoGetHeuristic(library, operation.handle, b.handle, a.handle,
                                                     c.handle, c.handle, preference.handle, 1,
                                                     &best, &num_found));
    SMOE_CHECK(num_found > 0, "gemm: cuBLASLt has no algorithm for c [", product.c.rows, ", ",
               product.c.cols, "] ", name_of(product.c.dtype), " from ", name_of(product.a.dtype));
    return chosen_[key] = best.algo;
  }

  std::mutex mutex_;
  std::map<int, cublasLtHandle_t> handles_;
  std::map<Product::Key, cublasLtMatmulAlgo_t> chosen_;
};

// target = factor * source; a null source is zero. A thread converts N elements of a row.
template <int N, class S, class T>
__global__ void __launch_bounds__(kThreads)
    convert(ConstMatrix source, Matrix target, std::int64_t pieces_of_row, float factor) {
  const std::int64_t at = std::int64_t{blockIdx.x} * kThreads + threadIdx.x;
  if (at >= target.rows * pieces_of_row) return;
  const std::int64_t i = at / pieces_of_row, j = at % pieces_of_row * N;
  float x[N] = {};
  if (source.data) load(row_of<S>(source, i) + j, x);
#pragma unroll
  for (int k = 0; k < N; ++k) x[k] *= factor;
  store(row_of<T>(target, i) + j, x);
}

void convert_matrix(const Launch& launch, const ConstMatrix& source, const Matrix& target,
                    float factor = 1) {
  if (target.rows == 0 || target.cols == 0) return;
  dispatch_storage("gemm", source.dtype, [&](auto source_type) {
    dispatch_storage("gemm", target.dtype, [&](auto target_type) {
      using S = decltype(source_type);
      using T = decltype(target_type);
      dispatch_width(fits_width(source) && fits_width(target), [&](auto width) {
        const std::int64_t pieces = target.cols / width;
        convert<width, S, T><<<static_cast<unsigned>(ceil_div(target.rows * pieces, kThreads)),
                               kThreads, 0, stream_of(launch)>>>(source, target, pieces, factor);
        check_launch("gemm");
      });
    });
  });
}

// The dtypes that the library computes with. It may round a product to c's dtype before it adds
// beta c; so where that is bf16, c is f32 to it.
struct Dtypes {
  DType operands, c;

  explicit Dtypes(const GemmArgs& args)
      : operands(args.a.dtype == DType::bf16 && args.b.dtype == DType::bf16 ? DType::bf16
                                                                            : DType::f32),
        c(operands == DType::bf16 && args.beta == 0 ? args.c.dtype : DType::f32) {}
};

// The workspace: the library's, then copies of what has another dtype than the library wants.
struct Copies {
  Matrix a, b, c;
  std::int64_t bytes = kLibraryBytes;

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

// c = beta c: what is left of a product without terms.
void scale_c(const Launch& launch, const GemmArgs& args) {
  ConstMatrix source = args.c;
  if (args.beta == 0) source.data = nullptr;
  if (args.beta != 1) convert_matrix(launch, source, args.c, static_cast<float>(args.beta));
}

}  // namespace

std::int64_t gemm_workspace_bytes(const Launch&, const GemmArgs& args) {
  return Copies(args).bytes;
}

void gemm(const Launch& launch, const GemmArgs& args) {
  check_args(args);
  if (args.c.rows == 0 || args.c.cols == 0) return;
  if (args.a.rows == 0 || args.a.cols == 0) return scale_c(launch, args);
  const Copies copies(args);
  const bool converts_c = copies.c.dtype != args.c.dtype;
  if (copies.a.dtype != args.a.dtype) convert_matrix(launch, args.a, copies.a);
  if (copies.b.dtype != args.b.dtype) convert_matrix(launch, args.b, copies.b);
  if (converts_c && args.beta != 0) convert_matrix(launch, args.c, copies.c);
  Library::get().run(launch,
                     {copies.a, copies.b, args.transpose_a, args.transpose_b, copies.c,
                      static_cast<float>(args.beta)},
                     args.workspace);
  if (converts_c) convert_matrix(launch, copies.c, args.c);
}

}  // namespace smoe::kernels::cuda
