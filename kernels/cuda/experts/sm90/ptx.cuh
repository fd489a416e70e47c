// PTX of compute capability 9.0 except wgmma (wgmma.cuh): mbarriers, TMA, clusters of two blocks,
// setmaxnreg, stmatrix.
#pragma once
#include <cuda.h>

#include <cstdint>

#include "kernels/cuda/device/mma.cuh"
#include "kernels/cuda/device/preceding_kernel.cuh"
#include "kernels/cuda/experts/sm90/barrier_guard.cuh"

namespace smoe::kernels::cuda::sm90 {

constexpr int kWarpgroup = 128;

// --- mbarriers, by their shared-memory address ---

__device__ inline void mbarrier_init(std::uint32_t barrier, int arrivals) {
  asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(barrier), "r"(arrivals));
}
/// Makes initialized barriers visible to the cluster and to TMA.
__device__ inline void fence_barrier_init() {
  asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
}
__device__ inline void mbarrier_arrive(std::uint32_t barrier) {
  asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(barrier) : "memory");
}
/// Arrives, and adds `bytes` to the transaction count that TMA must deliver in this phase.
__device__ inline void mbarrier_arrive_expect_tx(std::uint32_t barrier, int bytes) {
  asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(barrier), "r"(bytes)
               : "memory");
}
/// Arrives when all prior cp_async calls of this thread are complete.
__device__ inline void cp_async_mbarrier_arrive(std::uint32_t barrier) {
  asm volatile("cp.async.mbarrier.arrive.noinc.shared::cta.b64 [%0];" ::"r"(barrier) : "memory");
}
/// Arrives at the barrier of cluster block `rank`. Without release semantics: a release per arrival
/// would wait for the whole GPU, and a reader that frees a stage has nothing to publish.
__device__ inline void mbarrier_arrive_cluster(std::uint32_t barrier, int rank) {
  asm volatile(
      "{\n.reg .b32 remote;\nmapa.shared::cluster.u32 remote, %0, %1;\n"
      "mbarrier.arrive.shared::cluster.b64 _, [remote];\n}" ::"r"(barrier),
      "r"(rank)
      : "memory");
}
/// The same with a transaction count of `bytes`.
__device__ inline void mbarrier_arrive_expect_tx_cluster(std::uint32_t barrier, int rank,
                                                         int bytes) {
  asm volatile(
      "{\n.reg .b32 remote;\nmapa.shared::cluster.u32 remote, %0, %1;\n"
      "mbarrier.arrive.expect_tx.shared::cluster.b64 _, [remote], %2;\n}" ::"r"(barrier),
      "r"(rank), "r"(bytes)
      : "memory");
}

__device__ inline void mbarrier_wait(std::uint32_t barrier, std::uint32_t phase,
                                     const Awaited& awaited) {
  if constexpr (kGuardsBarriers) return mbarrier_wait_guarded(barrier, phase, awaited);
  asm volatile(
      "{\n.reg .pred done;\nAGAIN:\n"
      "mbarrier.try_wait.parity.shared::cta.b64 done, [%0], %1;\n"
      "@done bra DONE;\nbra AGAIN;\nDONE:\n}" ::"r"(barrier),
      "r"(phase)
      : "memory");
}
/// The same with acquire semantics for writes of the cluster's other block.
__device__ inline void mbarrier_wait_acquire_cluster(std::uint32_t barrier, std::uint32_t phase,
                                                     const Awaited& awaited) {
  if constexpr (kGuardsBarriers) return mbarrier_wait_guarded(barrier, phase, awaited);
  asm volatile(
      "{\n.reg .pred done;\nAGAIN:\n"
      "mbarrier.try_wait.parity.acquire.cluster.shared::cta.b64 done, [%0], %1;\n"
      "@done bra DONE;\nbra AGAIN;\nDONE:\n}" ::"r"(barrier),
      "r"(phase)
      : "memory");
}

// --- Clusters ---

__device__ inline int cluster_rank() {
  int rank;
  asm volatile("mov.u32 %0, %%cluster_ctarank;" : "=r"(rank));
  return rank;
}
__device__ inline int cluster_id() {
  int id;
  asm volatile("mov.u32 %0, %%clusterid.x;" : "=r"(id));
  return id;
}
/// Of the grid. A special register, so that no general one holds it.
__device__ inline int num_clusters() {
  int count;
  asm volatile("mov.u32 %0, %%nclusterid.x;" : "=r"(count));
  return count;
}
__device__ inline void cluster_sync() {
  __syncwarp();  // .aligned requires a converged warp
  asm volatile("barrier.cluster.arrive.aligned;\nbarrier.cluster.wait.aligned;" ::: "memory");
}
/// Writes to the same shared-memory address of cluster block `rank`, and adds the 16 bytes to the
/// transactions of that block's `barrier` once they are visible there: no fence is needed.
__device__ inline void store_async_cluster(std::uint32_t address, std::uint32_t barrier, int rank,
                                           const int4& value) {
  asm volatile(
      "{\n.reg .b32 remote, remote_barrier;\n"
      "mapa.shared::cluster.u32 remote, %0, %2;\n"
      "mapa.shared::cluster.u32 remote_barrier, %1, %2;\n"
      "st.async.shared::cluster.mbarrier::complete_tx::bytes.v4.b32 "
      "[remote], {%3, %4, %5, %6}, [remote_barrier];\n}" ::"r"(address),
      "r"(barrier), "r"(rank), "r"(value.x), "r"(value.y), "r"(value.z), "r"(value.w)
      : "memory");
}
__device__ inline void store_shared(std::uint32_t address, const int4& value) {
  asm volatile("st.shared.v4.b32 [%0], {%1, %2, %3, %4};" ::"r"(address), "r"(value.x),
               "r"(value.y), "r"(value.z), "r"(value.w)
               : "memory");
}
/// Loads 16 bytes as int4 or uint4.
template <class Vector>
__device__ inline Vector load_shared(std::uint32_t address) {
  Vector value;
  asm volatile("ld.shared.v4.b32 {%0, %1, %2, %3}, [%4];"
               : "=r"(value.x), "=r"(value.y), "=r"(value.z), "=r"(value.w)
               : "r"(address)
               : "memory");
  return value;
}

__device__ inline void store_shared(std::uint32_t address, const void* value) {
  asm volatile("st.shared.b64 [%0], %1;" ::"r"(address), "l"(value) : "memory");
}
__device__ inline const void* load_shared_pointer(std::uint32_t address) {
  const void* value;
  asm volatile("ld.shared.b64 %0, [%1];" : "=l"(value) : "r"(address) : "memory");
  return value;
}

// --- TMA. Out-of-bounds elements are loaded as zeros and not stored. ---

/// Coordinates of a box in a tensor map, innermost first.
struct TmaCoord {
  int x, y, z;
};

__device__ inline void prefetch_tensor_map(const CUtensorMap& map) {
  asm volatile("prefetch.tensormap [%0];" ::"l"(&map) : "memory");
}
__device__ inline void tma_load(std::uint32_t to, const CUtensorMap& map, std::uint32_t barrier,
                                const TmaCoord& at) {
  asm volatile(
      "cp.async.bulk.tensor.3d.shared::cluster.global.tile.mbarrier::complete_tx::bytes "
      "[%0], [%1, {%3, %4, %5}], [%2];" ::"r"(to),
      "l"(&map), "r"(barrier), "r"(at.x), "r"(at.y), "r"(at.z)
      : "memory");
}
/// Loads to the same address of both cluster blocks; the barrier of each counts the bytes.
__device__ inline void tma_load_multicast(std::uint32_t to, const CUtensorMap& map,
                                          std::uint32_t barrier, const TmaCoord& at) {
  asm volatile(
      "cp.async.bulk.tensor.3d.shared::cluster.global.tile.mbarrier::complete_tx::bytes"
      ".multicast::cluster [%0], [%1, {%3, %4, %5}], [%2], %6;" ::"r"(to),
      "l"(&map), "r"(barrier), "r"(at.x), "r"(at.y), "r"(at.z), "h"(std::uint16_t{3})
      : "memory");
}
/// The same with four dimensions.
__device__ inline void tma_load_multicast(std::uint32_t to, const CUtensorMap& map,
                                          std::uint32_t barrier, const int4& at) {
  asm volatile(
      "cp.async.bulk.tensor.4d.shared::cluster.global.tile.mbarrier::complete_tx::bytes"
      ".multicast::cluster [%0], [%1, {%3, %4, %5, %6}], [%2], %7;" ::"r"(to),
      "l"(&map), "r"(barrier), "r"(at.x), "r"(at.y), "r"(at.z), "r"(at.w), "h"(std::uint16_t{3})
      : "memory");
}
/// Cache policy of data that is not read again before L2 would have evicted it.
__device__ inline std::uint64_t evict_first_policy() {
  std::uint64_t policy;
  asm volatile("createpolicy.fractional.L2::evict_first.b64 %0, 1.0;" : "=l"(policy));
  return policy;
}
__device__ inline void tma_load(std::uint32_t to, const CUtensorMap& map, std::uint32_t barrier,
                                const TmaCoord& at, std::uint64_t policy) {
  asm volatile(
      "cp.async.bulk.tensor.3d.shared::cluster.global.tile.mbarrier::complete_tx::bytes"
      ".L2::cache_hint [%0], [%1, {%3, %4, %5}], [%2], %6;" ::"r"(to),
      "l"(&map), "r"(barrier), "r"(at.x), "r"(at.y), "r"(at.z), "l"(policy)
      : "memory");
}
__device__ inline void tma_store(const CUtensorMap& map, std::uint32_t from, const TmaCoord& at,
                                 std::uint64_t policy) {
  asm volatile(
      "cp.async.bulk.tensor.3d.global.shared::cta.tile.bulk_group.L2::cache_hint "
      "[%0, {%2, %3, %4}], [%1], %5;" ::"l"(&map),
      "r"(from), "r"(at.x), "r"(at.y), "r"(at.z), "l"(policy)
      : "memory");
}
__device__ inline void tma_store(const CUtensorMap& map, std::uint32_t from, const TmaCoord& at) {
  asm volatile(
      "cp.async.bulk.tensor.3d.global.shared::cta.tile.bulk_group [%0, {%2, %3, %4}], [%1];" ::"l"(
          &map),
      "r"(from), "r"(at.x), "r"(at.y), "r"(at.z)
      : "memory");
}
__device__ inline void tma_reduce_add(const CUtensorMap& map, std::uint32_t from,
                                      const TmaCoord& at) {
  asm volatile(
      "cp.reduce.async.bulk.tensor.3d.global.shared::cta.add.tile.bulk_group "
      "[%0, {%2, %3, %4}], [%1];" ::"l"(&map),
      "r"(from), "r"(at.x), "r"(at.y), "r"(at.z)
      : "memory");
}
/// Copies `bytes` of shared memory, a multiple of 16; a store like those by TMA.
__device__ inline void bulk_store(void* to, std::uint32_t from, int bytes) {
  asm volatile("cp.async.bulk.global.shared::cta.bulk_group [%0], [%1], %2;" ::"l"(to), "r"(from),
               "r"(bytes)
               : "memory");
}
/// Commits this thread's TMA stores since the last commit as one group.
__device__ inline void tma_store_commit() {
  asm volatile("cp.async.bulk.commit_group;" ::: "memory");
}
/// Waits until all but the kPending latest groups have read their shared memory.
template <int kPending>
__device__ inline void tma_store_wait_read() {
  asm volatile("cp.async.bulk.wait_group.read %0;" ::"n"(kPending) : "memory");
}
/// Waits until all groups are complete.
__device__ inline void tma_store_wait() {
  asm volatile("cp.async.bulk.wait_group 0;" ::: "memory");
}
/// Orders this thread's shared-memory accesses before those of the async proxy (TMA, wgmma).
__device__ inline void fence_proxy_async() {
  asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
}

// --- Warpgroups ---

template <int kRegisters>
__device__ inline void setmaxnreg_dec() {
  asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(kRegisters));
}
template <int kRegisters>
__device__ inline void setmaxnreg_inc() {
  asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(kRegisters));
}
/// Synchronizes the threads of warpgroup `warpgroup`, on a named barrier of its own.
__device__ inline void warpgroup_sync(int warpgroup) {
  asm volatile("bar.sync %0, %1;" ::"r"(1 + warpgroup), "n"(kWarpgroup) : "memory");
}

/// Turns of the two consumers: wait_turn(i) returns after pass_turn(i) of the other one, on named
/// barriers after those of warpgroup_sync.
__device__ inline void wait_turn(int consumer) {
  asm volatile("bar.sync %0, %1;" ::"r"(4 + consumer), "n"(2 * kWarpgroup) : "memory");
}
__device__ inline void pass_turn(int consumer) {
  asm volatile("bar.arrive %0, %1;" ::"r"(4 + consumer), "n"(2 * kWarpgroup) : "memory");
}

/// Stores four 8 x 8 matrices in the layout that ldmatrix_x4 reads.
template <bool kTranspose>
__device__ inline void stmatrix_x4(std::uint32_t address, const std::uint32_t (&r)[4]) {
  if constexpr (kTranspose)
    asm volatile(
        "stmatrix.sync.aligned.m8n8.x4.trans.shared.b16 [%0], {%1,%2,%3,%4};" ::"r"(address),
        "r"(r[0]), "r"(r[1]), "r"(r[2]), "r"(r[3])
        : "memory");
  else
    asm volatile("stmatrix.sync.aligned.m8n8.x4.shared.b16 [%0], {%1,%2,%3,%4};" ::"r"(address),
                 "r"(r[0]), "r"(r[1]), "r"(r[2]), "r"(r[3])
                 : "memory");
}

/// base + bytes without a wide multiply-add: while wgmma runs, an IMAD.WIDE stalls the whole SM,
/// and the compiler emits one for every plain 64-bit addition.
__device__ inline const void* offset_pointer(const void* base, std::uint32_t bytes) {
  const auto address = reinterpret_cast<std::uint64_t>(base);
  std::uint64_t sum;
  asm("{\n.reg .pred carry;\n.reg .b32 low, high;\n"
      "add.u32 low, %1, %3;\nsetp.lt.u32 carry, low, %3;\nselp.u32 high, 1, 0, carry;\n"
      "add.u32 high, high, %2;\nmov.b64 %0, {low, high};\n}"
      : "=l"(sum)
      : "r"(static_cast<std::uint32_t>(address)), "r"(static_cast<std::uint32_t>(address >> 32)),
        "r"(bytes));
  return reinterpret_cast<const void*>(sum);
}

}  // namespace smoe::kernels::cuda::sm90
