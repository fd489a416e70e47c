// Which form of the expert GEMMs, and of the GEMM with rotary embedding, runs: a pure function of
// the problem, the device and the policy. Workspace sizes, launches and the engine that a run's log
// names all read its result.
#pragma once
#include <cstdint>
#include <string>

#include "core/base/dtype.h"
#include "core/base/launch.h"

namespace smoe::kernels::cuda {

enum class ExpertGemmForm : std::uint8_t {
  simt,  ///< f32 FFMA: f32, and sizes that tensor cores cannot take
  sm80,  ///< mma.sync and cp.async: compute capability 8.0 and later
  sm90,  ///< wgmma and TMA: compute capability 9.0 only
};

enum class ExpertGemm : std::uint8_t { grouped_gemm, weight_gradient, up, down_backward };

/// One grouped GEMM. For the GEMMs of routed rows m is N; for weight gradients m is D_out, n is
/// D_in and k is N.
struct ExpertGemmDesc {
  ExpertGemm gemm;
  DType dtype;
  std::int64_t num_experts;
  std::int64_t m;
  std::int64_t n;  ///< of both halves together for gated pre-activations
  std::int64_t k;
  /// Every row of every array starts at a multiple of 16 bytes and has a whole number of 16-byte
  /// chunks.
  bool is_aligned = true;

  // Weight gradients only.
  std::int64_t gathered_bytes = 0;  ///< extent of the operand that is gathered row by row
  std::int64_t copied_bytes = 0;  ///< of the grouped copy that the sm90 form needs of the other one
  double beta = 0;
};

struct DeviceLimits {
  int compute_major;
  int compute_minor;
  std::int64_t num_sms;
  std::int64_t shared_bytes;  ///< per block, opt-in
};

struct GemmTile {
  int m, n, k;
};

struct ExpertGemmConfig {
  ExpertGemmForm form;
  GemmTile tile;
  int stages;
  std::int64_t workspace_bytes = 0;
  std::int64_t max_tiles = 0;  ///< upper bound over all routings
  /// Columns per partial of a row's gate gradient; 0 except for down_backward.
  int partial_cols = 0;
  const char* reason;  ///< why not a faster form; empty for sm90

  /// Partials per row of the gate gradients of F units.
  std::int64_t num_partials(std::int64_t f) const { return (f + partial_cols - 1) / partial_cols; }
};

constexpr GemmTile kSimtTile{128, 128, 8};
constexpr GemmTile kSm80Tile{128, 128, 64}, kSm80WideTile{128, 256, 64};
constexpr GemmTile kSm90Tile{128, 256, 64}, kSm90PingPongTile{128, 128, 64};
/// Up to this k the epilogue of down_backward takes as long as its mainloop, so that the ping-pong
/// form is faster.
constexpr int kSm90PingPongMaxK = 2048;
/// The order of more experts does not fit in shared memory beside the pipeline of the weight
/// gradient.
constexpr int kSm90MaxExperts = 512;
constexpr int kPartialCols = 64;

constexpr int sm80_stages(const GemmTile& tile) {
  return tile.n == kSm80WideTile.n ? 4 : 2;
}
constexpr int sm90_stages(ExpertGemm gemm, const GemmTile& tile = kSm90Tile) {
  if (tile.n == kSm90PingPongTile.n) return 4;
  return gemm == ExpertGemm::weight_gradient ? 4 : 3;
}

/// Shared memory of the largest block of the sm80 form with this tile.
constexpr std::int64_t sm80_shared_bytes(const GemmTile& tile) {
  constexpr std::int64_t kStaging = 16 * 64 * 2;  // of 16 rows of a warp's results
  constexpr std::int64_t kSchedule = 1024;
  const std::int64_t pipeline = std::int64_t{sm80_stages(tile)} * (tile.m + tile.n) * tile.k * 2;
  return pipeline + (tile.n == kSm80WideTile.n ? 8 * 2 : 4 * 6) * kStaging + kSchedule;
}

ExpertGemmConfig choose(const ExpertGemmDesc& desc, const DeviceLimits& limits,
                        const KernelPolicy& policy = {});

/// y [m, n] = x [m, k] W^T, of which heads are rotated.
struct RotaryGemmDesc {
  DType dtype;  ///< of all three
  std::int64_t m, n, k;
  std::int64_t seq_len, head_dim;
  bool is_aligned = true;  ///< as in ExpertGemmDesc
};

/// Whether the sm90 GEMM rotates, not a kernel of its own: from a tile per SM on, unless SMs are
/// idle for more than a sixth of their turns at a tile. With cuBLASLt's smaller tiles they are not.
bool fuses_rotary(const RotaryGemmDesc& desc, const DeviceLimits& limits);

/// "wgmma", "mma.sync" or "SIMT (FFMA)".
const char* engine_name(ExpertGemmForm form);

/// E.g. "wgmma 128x256x64, 3 stages, 0 bytes of workspace".
std::string to_string(const ExpertGemmConfig& config);

}  // namespace smoe::kernels::cuda
