// Guard builds, configured with -DSMOE_BARRIER_GUARD=ON: a wait for an mbarrier that never
// completes says who waits for what and traps, where other builds hang.
#pragma once
#include <cstdint>
#include <cstdio>

namespace smoe::kernels::cuda::sm90 {

#ifdef SMOE_BARRIER_GUARD
constexpr bool kGuardsBarriers = true;
#else
constexpr bool kGuardsBarriers = false;
#endif

/// What a warp waits for, as guard builds (SMOE_BARRIER_GUARD) report it: e.g. "stage full" is
/// awaited by consumers.
struct Awaited {
  const char* what;
  int index;  ///< of the stage, slot or part
};

/// mbarrier_wait of guard builds: after about two seconds it prints who waits for what and traps.
__device__ inline void mbarrier_wait_guarded(std::uint32_t barrier, std::uint32_t phase,
                                             const Awaited& awaited) {
  constexpr long long kMaxCycles = 3'000'000'000;
  const long long begin = clock64();
  for (int done = 0; done == 0;) {
    asm volatile(
        "{\n.reg .pred done;\n"
        "mbarrier.try_wait.parity.acquire.cluster.shared::cta.b64 done, [%1], %2;\n"
        "selp.b32 %0, 1, 0, done;\n}"
        : "=r"(done)
        : "r"(barrier), "r"(phase)
        : "memory");
    if (done == 0 && clock64() - begin > kMaxCycles) {
      printf("block %d warpgroup %d thread %d waits in vain: %s %d phase %d\n",
             static_cast<int>(blockIdx.x), static_cast<int>(threadIdx.x) / 128,
             static_cast<int>(threadIdx.x) % 128, awaited.what, awaited.index,
             static_cast<int>(phase));
      __trap();
    }
  }
}

}  // namespace smoe::kernels::cuda::sm90
