// The instructions of compute capability 9.0 that its products are made of: barriers in shared
// memory, boxes of tensors copied by the tensor memory accelerator (TMA), clusters of two blocks.
// wgmma.cuh has the products.
#pragma once
#include <cuda.h>

#include <cstdint>

#include "kernels/cuda/grouped/tensor_core.cuh"

namespace smoe::kernels::cuda::hopper {

constexpr int kWarpgroup = 128;

// --- Barriers, by their address in shared memory ---

__device__ inline void init_barrier(std::uint32_t barrier, int arrivals) {
  asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(barrier), "r"(arrivals));
}
/// Shows initialised barriers to the cluster and to TMA.
__device__ inline void publish_barriers() {
  asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
}
__device__ inline void arrive(std::uint32_t barrier) {
  asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(barrier) : "memory");
}
/// Arrives, and lets the phase end only when TMA has delivered `bytes` more.
__device__ inline void arrive_expecting(std::uint32_t barrier, int bytes) {
  asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(barrier), "r"(bytes)
               : "memory");
}
/// Arrives when all of this thread's copy_async so far have landed.
__device__ inline void arrive_after_copies(std::uint32_t barrier) {
  asm volatile("cp.async.mbarrier.arrive.noinc.shared::cta.b64 [%0];" ::"r"(barrier) : "memory");
}
/// Arrives at the barrier of the cluster's block `rank`. Orders nothing: a release in front of each
/// arrival would wait for the whole GPU, and what was read needs none.
__device__ inline void arrive_at(std::uint32_t barrier, int rank) {
  asm volatile(
      "{\n.reg .b32 remote;\nmapa.shared::cluster.u32 remote, %0, %1;\n"
      "mbarrier.arrive.shared::cluster.b64 _, [remote];\n}" ::"r"(barrier),
      "r"(rank)
      : "memory");
}
/// The same behind what this thread wrote.
__device__ inline void arrive_behind_writes_at(std::uint32_t barrier, int rank) {
  asm volatile(
      "{\n.reg .b32 remote;\nmapa.shared::cluster.u32 remote, %0, %1;\n"
      "mbarrier.arrive.release.cluster.shared::cluster.b64 _, [remote];\n}" ::"r"(barrier),
      "r"(rank)
      : "memory");
}
__device__ inline void wait(std::uint32_t barrier, std::uint32_t parity) {
  asm volatile(
      "{\n.reg .pred done;\nAGAIN:\n"
      "mbarrier.try_wait.parity.shared::cta.b64 done, [%0], %1;\n"
      "@done bra DONE;\nbra AGAIN;\nDONE:\n}" ::"r"(barrier),
      "r"(parity)
      : "memory");
}
/// The same, for what another block of the cluster wrote.
__device__ inline void wait_for_cluster(std::uint32_t barrier, std::uint32_t parity) {
  asm volatile(
      "{\n.reg .pred done;\nAGAIN:\n"
      "mbarrier.try_wait.parity.acquire.cluster.shared::cta.b64 done, [%0], %1;\n"
      "@done bra DONE;\nbra AGAIN;\nDONE:\n}" ::"r"(barrier),
      "r"(parity)
      : "memory");
}

// --- Clusters ---

__device__ inline int cluster_rank() {
  int rank;
  asm volatile("mov.u32 %0, %%cluster_ctarank;" : "=r"(rank));
  return rank;
}
__device__ inline void sync_cluster() {
  __syncwarp();  // the aligned form below wants a warp's threads together
  asm volatile("barrier.cluster.arrive.aligned;\nbarrier.cluster.wait.aligned;" ::: "memory");
}
/// Writes to the same address of the cluster's block `rank`.
__device__ inline void store_at(std::uint32_t address, int rank, int value) {
  asm volatile(
      "{\n.reg .b32 remote;\nmapa.shared::cluster.u32 remote, %0, %1;\n"
      "st.shared::cluster.b32 [remote], %2;\n}" ::"r"(address),
      "r"(rank), "r"(value)
      : "memory");
}

// --- Boxes of tensors. What lies outside a tensor is read as zeros and not written. ---

struct BoxAt {
  int x, y, z;
};

__device__ inline void prefetch_map(const CUtensorMap& map) {
  asm volatile("prefetch.tensormap [%0];" ::"l"(&map) : "memory");
}
__device__ inline void load_box(std::uint32_t to, const CUtensorMap& map, std::uint32_t barrier,
                                const BoxAt& at) {
  asm volatile(
      "cp.async.bulk.tensor.3d.shared::cluster.global.tile.mbarrier::complete_tx::bytes "
      "[%0], [%1, {%3, %4, %5}], [%2];" ::"r"(to),
      "l"(&map), "r"(barrier), "r"(at.x), "r"(at.y), "r"(at.z)
      : "memory");
}
/// Into the same place of both blocks of the cluster, each of whose barriers counts the bytes.
__device__ inline void load_box_for_both(std::uint32_t to, const CUtensorMap& map,
                                         std::uint32_t barrier, const BoxAt& at) {
  asm volatile(
      "cp.async.bulk.tensor.3d.shared::cluster.global.tile.mbarrier::complete_tx::bytes"
      ".multicast::cluster [%0], [%1, {%3, %4, %5}], [%2], %6;" ::"r"(to),
      "l"(&map), "r"(barrier), "r"(at.x), "r"(at.y), "r"(at.z), "h"(std::uint16_t{3})
      : "memory");
}
__device__ inline void store_box(const CUtensorMap& map, std::uint32_t from, const BoxAt& at) {
  asm volatile(
      "cp.async.bulk.tensor.3d.global.shared::cta.tile.bulk_group [%0, {%2, %3, %4}], [%1];" ::"l"(
          &map),
      "r"(from), "r"(at.x), "r"(at.y), "r"(at.z)
      : "memory");
}
__device__ inline void add_box(const CUtensorMap& map, std::uint32_t from, const BoxAt& at) {
  asm volatile(
      "cp.reduce.async.bulk.tensor.3d.global.shared::cta.add.tile.bulk_group "
      "[%0, {%2, %3, %4}], [%1];" ::"l"(&map),
      "r"(from), "r"(at.x), "r"(at.y), "r"(at.z)
      : "memory");
}
/// Makes this thread's stores so far one group.
__device__ inline void commit_stores() {
  asm volatile("cp.async.bulk.commit_group;" ::: "memory");
}
/// Waits until all but the kPending latest groups have been read from shared memory.
template <int kPending>
__device__ inline void wait_stores_read() {
  asm volatile("cp.async.bulk.wait_group.read %0;" ::"n"(kPending) : "memory");
}
__device__ inline void wait_stores() {
  asm volatile("cp.async.bulk.wait_group 0;" ::: "memory");
}
/// Orders this thread's accesses of shared memory before TMA's and wgmma's.
__device__ inline void fence_async() {
  asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
}

// --- A warpgroup ---

template <int kRegisters>
__device__ inline void shrink_registers() {
  asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(kRegisters));
}
template <int kRegisters>
__device__ inline void grow_registers() {
  asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(kRegisters));
}
/// Waits for the warpgroup's other threads; each warpgroup has barriers of its own.
__device__ inline void sync_warpgroup(int warpgroup) {
  asm volatile("bar.sync %0, %1;" ::"r"(1 + warpgroup), "n"(kWarpgroup) : "memory");
}

/// Four 8 x 8 matrices to shared memory, as load_matrices reads them.
template <bool kTranspose>
__device__ inline void store_matrices(std::uint32_t address, const std::uint32_t (&r)[4]) {
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

/// `bytes` behind `base`, without a wide multiply-add: next to running wgmmas each of those holds
/// up the whole multiprocessor, and the compiler makes them of every plain 64-bit sum.
__device__ inline const void* advance(const void* base, std::uint32_t bytes) {
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

}  // namespace smoe::kernels::cuda::hopper
