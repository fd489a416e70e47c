#include "autograd/gradient_step.h"

namespace smoe {

GradientStep::GradientStep(ParameterStore& store, std::int64_t num_backwards)
    : store_(store), backwards_left_(num_backwards) {
  store_.begin_step();
}

WatchedGradients GradientStep::backward(Tape& tape, const Variable& loss) {
  --backwards_left_;
  store_.is_last_backward_ = backwards_left_ == 0;
  return tape.backward(loss);
}

void GradientStep::finish() {
  SMOE_INTERNAL_CHECK(backwards_left_ == 0, "gradient_step: ", backwards_left_,
                      " backward passes have not run");
  store_.finish_step();
}

}  // namespace smoe
