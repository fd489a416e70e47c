// OpVariant: differentiable ops as a variant of a benchmark, recorded on a tape as a module records
// them.
#pragma once
#include <optional>

#include "autograd/gradient_step.h"
#include "train/bench/expert_variant.h"

namespace smoe {

class OpVariant : public ExpertVariant {
 public:
  Tensor forward(bool trains) override;
  void backward() override;

 protected:
  /// One parameter per weight; the gradients of the first three are dw1, dw2 and dw3.
  /// `overwrites_x`: the ops get x without another reference, so that they may write dx over it. It
  /// is the x of the next run, whose values differ, but not its time.
  OpVariant(const ExpertInputs& inputs, const std::vector<Tensor>& weights, bool overwrites_x);

  /// The variant's function of x and gates.
  virtual Variable run(Variable x, const Variable& gates) = 0;
  Parameter& parameter(int i) { return *parameters_[i]; }

 private:
  std::vector<std::unique_ptr<Parameter>> parameters_;
  std::optional<ParameterStore> store_;
  bool overwrites_x_;
  Tape tape_;
  std::optional<GradientStep> step_;
  Variable x_, y_;  // places on the tape, without the data
};

}  // namespace smoe
