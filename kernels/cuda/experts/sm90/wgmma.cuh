// wgmma m64n256k16 and m64n128k16 with both operands in 128-byte-swizzled shared memory.
#pragma once
#include <cstdint>

namespace smoe::kernels::cuda::sm90 {

/// A warpgroup's [64, 256] f32 accumulators. Warp w holds rows 16 w to 16 w + 15. Of fragment j
/// (columns 8 j to 8 j + 7) a lane holds elements 4 j to 4 j + 3: columns lane % 4 * 2 (+ 1) of row
/// lane / 4, then of row lane / 4 + 8.
using Accumulators = float[128];

/// Contiguous dimension of an operand tile in shared memory, whose rows are 128 bytes.
enum class Major { k, mn };

/// Shared-memory descriptor of an operand tile. K-major: one row of 64 k per row of the operand.
/// MN-major: sub-tiles of 64 columns, each with one row per k.
template <Major kMajor>
__device__ inline std::uint64_t make_smem_descriptor(std::uint32_t address) {
  constexpr std::uint64_t kSwizzle128 = std::uint64_t{1} << 62;
  constexpr std::uint64_t kStrideEightRows = std::uint64_t{1024 >> 4} << 32;
  constexpr std::uint64_t kLeadingStride = kMajor == Major::k ? 1 : 8192 >> 4;
  return (address & 0x3FFFF) >> 4 | kLeadingStride << 16 | kStrideEightRows | kSwizzle128;
}
/// Descriptor increment per k slice of 16.
template <Major kMajor>
constexpr int kDescriptorStep = kMajor == Major::k ? 32 >> 4 : 2048 >> 4;

__device__ inline void wgmma_fence() {
  asm volatile("wgmma.fence.sync.aligned;" ::: "memory");
}
/// Commits the wgmmas issued since the last commit as one group.
__device__ inline void wgmma_commit() {
  asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory");
}
/// Waits until at most the kPending latest groups are incomplete.
template <int kPending>
__device__ inline void wgmma_wait() {
  asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(kPending) : "memory");
}

/// Issues c = a b (+ c if `accumulate`), a [64, 16], b [16, 256].
template <Major kMajorA, Major kMajorB>
__device__ inline void wgmma_m64n256k16(Accumulators& c, std::uint64_t a, std::uint64_t b,
                                        bool accumulate) {
#define SMOE_8(i)                                                                             \
  "+f"(c[i]), "+f"(c[i + 1]), "+f"(c[i + 2]), "+f"(c[i + 3]), "+f"(c[i + 4]), "+f"(c[i + 5]), \
      "+f"(c[i + 6]), "+f"(c[i + 7])
#define SMOE_32(i) SMOE_8(i), SMOE_8(i + 8), SMOE_8(i + 16), SMOE_8(i + 24)
  asm volatile(
      "{\n.reg .pred accumulate;\nsetp.ne.b32 accumulate, %130, 0;\n"
      "wgmma.mma_async.sync.aligned.m64n256k16.f32.bf16.bf16 "
      "{%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, "
      "%16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31, "
      "%32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, %47, "
      "%48, %49, %50, %51, %52, %53, %54, %55, %56, %57, %58, %59, %60, %61, %62, %63, "
      "%64, %65, %66, %67, %68, %69, %70, %71, %72, %73, %74, %75, %76, %77, %78, %79, "
      "%80, %81, %82, %83, %84, %85, %86, %87, %88, %89, %90, %91, %92, %93, %94, %95, "
      "%96, %97, %98, %99, %100, %101, %102, %103, %104, %105, %106, %107, %108, %109, %110, %111, "
      "%112, %113, %114, %115, %116, %117, %118, %119, %120, %121, %122, %123, %124, %125, %126, "
      "%127}, "
      "%128, %129, accumulate, 1, 1, %131, %132;\n}\n"
      : SMOE_32(0), SMOE_32(32), SMOE_32(64), SMOE_32(96)
      : "l"(a), "l"(b), "r"(static_cast<int>(accumulate)), "n"(kMajorA == Major::mn),
        "n"(kMajorB == Major::mn));
}

/// A warpgroup's [64, 128] f32 accumulators, distributed as Accumulators are.
using NarrowAccumulators = float[64];

/// Issues c = a b (+ c if `accumulate`), a [64, 16], b [16, 128].
template <Major kMajorA, Major kMajorB>
__device__ inline void wgmma_m64n128k16(NarrowAccumulators& c, std::uint64_t a, std::uint64_t b,
                                        bool accumulate) {
  asm volatile(
      "{\n.reg .pred accumulate;\nsetp.ne.b32 accumulate, %66, 0;\n"
      "wgmma.mma_async.sync.aligned.m64n128k16.f32.bf16.bf16 "
      "{%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, "
      "%16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31, "
      "%32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, %47, "
      "%48, %49, %50, %51, %52, %53, %54, %55, %56, %57, %58, %59, %60, %61, %62, %63}, "
      "%64, %65, accumulate, 1, 1, %67, %68;\n}\n"
      : SMOE_32(0), SMOE_32(32)
      : "l"(a), "l"(b), "r"(static_cast<int>(accumulate)), "n"(kMajorA == Major::mn),
        "n"(kMajorB == Major::mn));
}
#undef SMOE_32
#undef SMOE_8

}  // namespace smoe::kernels::cuda::sm90
