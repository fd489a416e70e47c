// ForwardContext: what a forward pass needs to know beside its inputs.
#pragma once
#include <cstdint>

namespace smoe {

/// What backward computes again instead of keeping it from the forward pass. The gradients are the
/// same bits each way; the choice of experts is never made twice.
enum class Recompute : std::uint8_t {
  none,
  experts,  ///< the experts' pre-activations, at the cost of their first product
  block,    ///< all but the input and the routing of each decoder layer: its whole forward pass
};

struct ForwardContext {
  std::int64_t batch = 0;    ///< B sequences ...
  std::int64_t seq_len = 0;  ///< ... of S tokens each
  bool is_training = false;  ///< jitter on, expert load counted
  std::uint64_t seed = 0;    ///< of the run
  std::int64_t step = 0;     ///< with micro_batch names the random numbers of this pass
  std::int64_t micro_batch = 0;
  Recompute recompute = Recompute::none;

  std::int64_t num_tokens() const { return batch * seq_len; }
};

}  // namespace smoe
