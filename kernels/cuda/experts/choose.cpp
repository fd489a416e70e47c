#include "kernels/cuda/experts/choose.h"

#include "core/base/check.h"
#include "kernels/ceil_div.h"

namespace smoe::kernels::cuda {
namespace {

bool is_empty(const ExpertGemmDesc& desc) {
  return desc.m == 0 || desc.n == 0 || desc.k == 0;
}

// What the tensor-core forms have in common.
const char* why_no_tensor_cores(const ExpertGemmDesc& desc, const DeviceLimits& limits) {
  if (desc.dtype != DType::bf16) return "the dtype is not bf16";
  if (!desc.is_aligned) return "a width is not a multiple of 8";
  if (sm80_shared_bytes(kSm80Tile) > limits.shared_bytes)
    return "the GPU has too little shared memory";
  return "";
}

const char* why_not_sm90(const ExpertGemmDesc& desc, const DeviceLimits& limits,
                         const KernelPolicy& policy) {
  if (limits.compute_major != 9 || limits.compute_minor != 0)
    return "the GPU's compute capability is not 9.0";
  if (policy.experts == ExpertKernels::portable) return "the policy is portable";
  static_assert(kSm90MaxExperts == 512);
  if (desc.num_experts > kSm90MaxExperts) return "there are more than 512 experts";
  if (is_empty(desc)) return "there are no rows";
  if (desc.gemm == ExpertGemm::weight_gradient) {
    if (desc.beta != 0 && desc.beta != 1) return "beta is neither 0 nor 1";
    if (desc.gathered_bytes >> 32 != 0) return "a gathered operand has 4 GiB or more";
  }
  return "";
}

// The epilogue of down_backward takes as long as the GEMM, so two blocks per SM must overlap.
GemmTile sm80_tile(const ExpertGemmDesc& desc, const DeviceLimits& limits) {
  const bool is_wide = desc.n > kSm80Tile.n && desc.gemm != ExpertGemm::down_backward;
  return is_wide && sm80_shared_bytes(kSm80WideTile) <= limits.shared_bytes ? kSm80WideTile
                                                                            : kSm80Tile;
}

std::int64_t max_tiles(const ExpertGemmDesc& desc, const GemmTile& tile) {
  const std::int64_t row_tiles = desc.gemm == ExpertGemm::weight_gradient
                                     ? desc.num_experts * ceil_div(desc.m, tile.m)
                                     : desc.m / tile.m + desc.num_experts;
  return row_tiles * ceil_div(desc.n, tile.n);
}

std::int64_t workspace_bytes(const ExpertGemmDesc& desc, const ExpertGemmConfig& config) {
  if (desc.gemm == ExpertGemm::down_backward)
    return desc.m * config.num_partials(desc.n) * std::int64_t{sizeof(float)};
  return config.form == ExpertGemmForm::sm90 ? desc.copied_bytes : 0;
}

}  // namespace

ExpertGemmConfig choose(const ExpertGemmDesc& desc, const DeviceLimits& limits,
                        const KernelPolicy& policy) {
  ExpertGemmConfig config{};
  const bool is_down_backward = desc.gemm == ExpertGemm::down_backward;
  if (const char* reason = why_no_tensor_cores(desc, limits); *reason != '\0') {
    config = {.form = ExpertGemmForm::simt, .tile = kSimtTile, .stages = 1, .reason = reason};
  } else if (reason = why_not_sm90(desc, limits, policy); *reason != '\0') {
    const GemmTile tile = sm80_tile(desc, limits);
    config = {
        .form = ExpertGemmForm::sm80, .tile = tile, .stages = sm80_stages(tile), .reason = reason};
  } else {
    const bool is_pingpong = is_down_backward && desc.k <= kSm90PingPongMaxK;
    const GemmTile tile = is_pingpong ? kSm90PingPongTile : kSm90Tile;
    config = {.form = ExpertGemmForm::sm90,
              .tile = tile,
              .stages = sm90_stages(desc.gemm, tile),
              .reason = ""};
  }
  if (is_down_backward)
    config.partial_cols = config.form == ExpertGemmForm::sm90 ? config.tile.n : kPartialCols;
  config.max_tiles = max_tiles(desc, config.tile);
  config.workspace_bytes = workspace_bytes(desc, config);
  return config;
}

bool fuses_rotary(const RotaryGemmDesc& desc, const DeviceLimits& limits) {
  constexpr std::int64_t kMost = std::int64_t{1} << 30;  // counted in 32 bits
  const bool has_form = limits.compute_major == 9 && limits.compute_minor == 0 &&
                        desc.dtype == DType::bf16 && desc.is_aligned &&
                        (desc.head_dim == 64 || desc.head_dim == 128);
  if (!has_form || desc.k == 0 || desc.m >= kMost || desc.seq_len * desc.head_dim >= kMost)
    return false;
  const std::int64_t tiles = ceil_div(desc.m, kSm90Tile.m) * ceil_div(desc.n, kSm90Tile.n);
  const std::int64_t turns = ceil_div(tiles, limits.num_sms) * limits.num_sms;
  return tiles >= limits.num_sms && (turns - tiles) * 6 <= turns;
}

const char* engine_name(ExpertGemmForm form) {
  switch (form) {
    case ExpertGemmForm::simt:
      return "SIMT (FFMA)";
    case ExpertGemmForm::sm80:
      return "mma.sync";
    case ExpertGemmForm::sm90:
      return "wgmma";
  }
  return "?";
}

std::string to_string(const ExpertGemmConfig& config) {
  const GemmTile& tile = config.tile;
  return concat(engine_name(config.form), " ", tile.m, "x", tile.n, "x", tile.k, ", ",
                config.stages, config.stages == 1 ? " stage, " : " stages, ",
                config.workspace_bytes, " bytes of workspace",
                *config.reason != '\0' ? concat(", because ", config.reason) : "");
}

}  // namespace smoe::kernels::cuda
