// For builds without cuDNN or its C++ headers: attention runs on simt_attention.
#include "kernels/cuda/cudnn_attention.h"

#include "core/base/check.h"

namespace smoe::kernels::cuda {
namespace {

[[noreturn]] void fail() {
  throw InternalError("attention: this build has no cuDNN");
}

}  // namespace

std::string cudnn_version(const Launch&) {
  return "";
}
bool cudnn_supports(const Launch&, const CudnnAttentionSizes&) {
  return false;
}
void cudnn_attention(const Launch&, const CudnnAttentionSizes&, const AttentionArgs&) {
  fail();
}
std::int64_t cudnn_attention_workspace_bytes(const Launch&, const CudnnAttentionSizes&) {
  fail();
}
void cudnn_attention_backward(const Launch&, const CudnnAttentionSizes&,
                              const AttentionBackwardArgs&) {
  fail();
}
std::int64_t cudnn_attention_backward_workspace_bytes(const Launch&, const CudnnAttentionSizes&) {
  fail();
}

}  // namespace smoe::kernels::cuda
