// The parts one after the other.
#include "kernels/rotary_gemm.h"

namespace smoe::kernels::cpu {

void gemm(const Launch& launch, const GemmArgs& args);
std::int64_t gemm_workspace_bytes(const Launch& launch, const GemmArgs& args);
void rotary(const Launch& launch, const RotaryArgs& args);

void rotary_gemm(const Launch& launch, const RotaryGemmArgs& args) {
  cpu::gemm(launch, args.gemm());
  cpu::rotary(launch, args.rotary);
}

std::int64_t rotary_gemm_workspace_bytes(const Launch& launch, const RotaryGemmArgs& args) {
  return cpu::gemm_workspace_bytes(launch, args.gemm());
}

}  // namespace smoe::kernels::cpu
