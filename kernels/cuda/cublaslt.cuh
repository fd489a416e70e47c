// Products by cuBLASLt. It knows columns first, so it is asked for c^T = op(b)^T op(a)^T.
// Algorithms whose sums depend on timing are ruled out, and so is TF32.
#pragma once
#include <cublasLt.h>

#include <array>
#include <map>
#include <mutex>

#include "kernels/cuda/common.cuh"

namespace smoe::kernels::cuda {

// What NVIDIA recommends for Hopper.
constexpr std::int64_t kLibraryBytes = std::int64_t{32} << 20;

inline void check(cublasStatus_t status, const char* call) {
  if (status != CUBLAS_STATUS_SUCCESS)
    throw SystemError(concat("gemm: ", call, " failed: ", cublasLtGetStatusName(status), ": ",
                             cublasLtGetStatusString(status)));
}
#define SMOE_CUBLAS_CHECK(call) check((call), #call)

inline cudaDataType_t data_type(DType dtype) {
  return dtype == DType::bf16 ? CUDA_R_16BF : CUDA_R_32F;
}

// Largest power of two, at most 256, that divides both.
inline std::uint32_t alignment_of(const void* data, std::int64_t stride_bytes) {
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

}  // namespace smoe::kernels::cuda
