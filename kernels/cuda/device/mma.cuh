// PTX of sm_80 and later for tensor-core kernels: cp.async, ldmatrix and mma.sync m16n8k16 (bf16
// operands, f32 accumulators).
#pragma once
#include <cuda_bf16.h>

#include <cstdint>

namespace smoe::kernels::cuda {

using Bf16 = __nv_bfloat16;

/// Address of `pointer` in the shared state space.
__device__ inline std::uint32_t shared_address(const void* pointer) {
  return static_cast<std::uint32_t>(__cvta_generic_to_shared(pointer));
}

/// Copies 16 bytes to shared memory asynchronously, bypassing L1. Fills with zeros and does not
/// read if !valid.
__device__ inline void cp_async(std::uint32_t to, const void* from, bool valid) {
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(to), "l"(from),
               "r"(valid ? 16 : 0)
               : "memory");
}
/// Commits this thread's cp_async calls since the last commit as one group.
__device__ inline void cp_async_commit() {
  asm volatile("cp.async.commit_group;" ::: "memory");
}
/// Waits until at most the kPending latest groups are incomplete.
template <int kPending>
__device__ inline void cp_async_wait() {
  asm volatile("cp.async.wait_group %0;" ::"n"(kPending) : "memory");
}
/// Waits until all of this thread's cp_async calls are complete.
__device__ inline void cp_async_wait_all() {
  asm volatile("cp.async.wait_all;" ::: "memory");
}

/// Loads four 8 x 8 matrices of 16-bit elements; lane i passes the address of row i % 8 of matrix
/// i / 8. Each thread gets two neighbors of a row, or of a column if transposed.
template <bool kTranspose>
__device__ inline void ldmatrix_x4(std::uint32_t address, std::uint32_t (&r)[4]) {
  if constexpr (kTranspose)
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(address)
                 : "memory");
  else
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(address)
                 : "memory");
}

/// c [16, 8] += a [16, 16] b [16, 8]. A thread holds rows lane / 4 (+ 8) and columns
/// lane % 4 * 2 (+ 1) of c.
__device__ inline void mma_m16n8k16(float (&c)[4], const std::uint32_t (&a)[4], std::uint32_t b0,
                                    std::uint32_t b1) {
  asm volatile(
      "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 "
      "{%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
      : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

/// Packs two neighbors into one 32-bit word, each rounded to nearest even.
__device__ inline std::uint32_t pack_bf16(float low, float high) {
  const __nv_bfloat162 pair = __floats2bfloat162_rn(low, high);
  return reinterpret_cast<const std::uint32_t&>(pair);
}
__device__ inline float2 unpack_bf16(std::uint32_t word) {
  return {__uint_as_float(word << 16), __uint_as_float(word & 0xffff0000u)};
}

}  // namespace smoe::kernels::cuda
