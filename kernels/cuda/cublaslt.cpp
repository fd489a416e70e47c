#include "kernels/cuda/cublaslt.h"

#include <array>
#include <map>
#include <mutex>

#include "kernels/cuda/cublaslt_library.h"
#include "kernels/cuda/launch.cuh"

namespace smoe::kernels::cuda {
namespace {

void check(cublasStatus_t status, const char* call) {
  if (status == CUBLAS_STATUS_SUCCESS) return;
  const CublasltLibrary& cublas = cublaslt_library();
  throw SystemError(concat("gemm: ", call, " failed: ", cublas.status_name(status), ": ",
                           cublas.status_string(status)));
}

cudaDataType_t data_type(DType dtype) {
  return dtype == DType::bf16 ? CUDA_R_16BF : CUDA_R_32F;
}

// Largest power of two, at most 256, that divides both.
std::uint32_t alignment_of(const void* data, std::int64_t stride_bytes) {
  const auto bits = reinterpret_cast<std::uintptr_t>(data) |
                    static_cast<std::uintptr_t>(stride_bytes) | std::uintptr_t{256};
  return static_cast<std::uint32_t>(bits & -bits);
}

// Descriptors of a matrix, an operation and what an algorithm may use. They own no other memory.
struct Layout {
  cublasLtMatrixLayoutOpaque_t opaque;

  explicit Layout(const ConstMatrix& m) {
    check(cublaslt_library().layout_init(&opaque, sizeof opaque, data_type(m.dtype), m.cols, m.rows,
                                         m.stride),
          "cublasLtMatrixLayoutInit");
  }
  cublasLtMatrixLayout_t get() const { return const_cast<cublasLtMatrixLayout_t>(&opaque); }
};

struct Operation {
  cublasLtMatmulDescOpaque_t opaque;

  Operation(bool transpose_first, bool transpose_second) {
    check(cublaslt_library().operation_init(&opaque, sizeof opaque, CUBLAS_COMPUTE_32F, CUDA_R_32F),
          "cublasLtMatmulDescInit");
    set(CUBLASLT_MATMUL_DESC_TRANSA, transpose_first ? CUBLAS_OP_T : CUBLAS_OP_N);
    set(CUBLASLT_MATMUL_DESC_TRANSB, transpose_second ? CUBLAS_OP_T : CUBLAS_OP_N);
  }
  cublasLtMatmulDesc_t get() const { return const_cast<cublasLtMatmulDesc_t>(&opaque); }

 private:
  void set(cublasLtMatmulDescAttributes_t attribute, cublasOperation_t value) {
    check(cublaslt_library().operation_set(get(), attribute, &value, sizeof value),
          "cublasLtMatmulDescSetAttribute");
  }
};

struct Preference {
  cublasLtMatmulPreferenceOpaque_t opaque;

  Preference() {
    check(cublaslt_library().preference_init(&opaque, sizeof opaque),
          "cublasLtMatmulPreferenceInit");
  }
  template <class T>
  void set(cublasLtMatmulPreferenceAttributes_t attribute, T value) {
    check(cublaslt_library().preference_set(&opaque, attribute, &value, sizeof value),
          "cublasLtMatmulPreferenceSetAttribute");
  }
};

// Everything that the choice of an algorithm may depend on.
using Key = std::array<std::int64_t, 14>;

std::uint32_t alignment_of(const ConstMatrix& m) {
  return alignment_of(m.data, m.stride * size_of(m.dtype));
}

Key key_of(int device, const CublasltGemm& gemm) {
  const auto& [a, b, transpose_a, transpose_b, c, beta] = gemm;
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
          alignment_of(a),
          alignment_of(b),
          alignment_of(c),
          kCublasltWorkspaceBytes};
}

// The handles of the devices and the algorithms chosen so far.
class Library {
 public:
  static Library& get() {
    static Library& library = *new Library;
    return library;
  }

  void run(const Launch& launch, const CublasltGemm& gemm, void* workspace) {
    const Operation operation(gemm.transpose_b, gemm.transpose_a);
    const Layout a(gemm.a), b(gemm.b), c(gemm.c);
    const cublasLtMatmulAlgo_t algorithm = choose(launch.device.index, gemm, operation, a, b, c);
    const float alpha = 1;
    check(cublaslt_library().matmul(handle(launch.device.index), operation.get(), &alpha,
                                    gemm.b.data, b.get(), gemm.a.data, a.get(), &gemm.beta,
                                    gemm.c.data, c.get(), gemm.c.data, c.get(), &algorithm,
                                    workspace, kCublasltWorkspaceBytes, stream_of(launch)),
          "cublasLtMatmul");
  }

 private:
  cublasLtHandle_t handle(int device) {
    const std::lock_guard lock(mutex_);
    cublasLtHandle_t& handle = handles_[device];
    if (!handle) check(cublaslt_library().create(&handle), "cublasLtCreate");
    return handle;
  }

  cublasLtMatmulAlgo_t choose(int device, const CublasltGemm& gemm, const Operation& operation,
                              const Layout& a, const Layout& b, const Layout& c) {
    const cublasLtHandle_t library = handle(device);
    const std::lock_guard lock(mutex_);
    const auto key = key_of(device, gemm);
    if (const auto chosen = chosen_.find(key); chosen != chosen_.end()) return chosen->second;
    Preference preference;
    preference.set(CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES,
                   std::uint64_t{kCublasltWorkspaceBytes});
    // Split-K partial results are reduced in f32 from the workspace, never in place, where the
    // order may depend on timing.
    preference.set(CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK,
                   std::uint32_t{CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE});
    preference.set(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, alignment_of(gemm.b));
    preference.set(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, alignment_of(gemm.a));
    preference.set(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, alignment_of(gemm.c));
    preference.set(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES, alignment_of(gemm.c));
    cublasLtMatmulHeuristicResult_t best;
    int num_found = 0;
    check(cublaslt_library().get_heuristic(library, operation.get(), b.get(), a.get(), c.get(),
                                           c.get(), &preference.opaque, 1, &best, &num_found),
          "cublasLtMatmulAlgoGetHeuristic");
    SMOE_CHECK(num_found > 0, "gemm: cuBLASLt has no algorithm for c [", gemm.c.rows, ", ",
               gemm.c.cols, "] ", name_of(gemm.c.dtype), " from ", name_of(gemm.a.dtype));
    return chosen_[key] = best.algo;
  }

  std::mutex mutex_;
  std::map<int, cublasLtHandle_t> handles_;
  std::map<Key, cublasLtMatmulAlgo_t> chosen_;
};

}  // namespace

void cublaslt_gemm(const Launch& launch, const CublasltGemm& gemm, void* workspace) {
  Library::get().run(launch, gemm, workspace);
}

}  // namespace smoe::kernels::cuda
