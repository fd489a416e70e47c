#include "autograd/recompute.h"

#include "autograd/saved_tensor.h"
#include "autograd/tape.h"
#include "core/base/instrument.h"

namespace smoe {
namespace {

// What is kept between the two runs of a segment, and the second run.
struct Recomputation {
  Segment segment;
  std::vector<SavedTensor> inputs;

  // Moves the kept inputs to the inner tape, so that its ops may overwrite them.
  void run_backward(std::vector<Tensor> doutputs, InputGradients& out) {
    Tape tape(out.observer());
    const TapeScope scope(tape);
    std::vector<Variable> watched;
    for (std::size_t i = 0; i < inputs.size(); ++i) {
      Tensor input = inputs[i].take();
      watched.push_back(out.wants(static_cast<int>(i)) ? tape.watch(std::move(input))
                                                       : Variable(std::move(input)));
    }
    const WatchedGradients gradients = tape.backward(run_again(watched), std::move(doutputs));
    for (std::size_t i = 0; i < watched.size(); ++i)
      if (Tensor gradient = gradients.find(watched[i]); gradient.defined())
        out.give(static_cast<int>(i), std::move(gradient));
  }

  std::vector<Variable> run_again(const std::vector<Variable>& watched) {
    const PlaceScope place(Phase::recompute);
    return segment(watched);
  }
};

std::vector<Tensor> run_unrecorded(const Segment& segment, const std::vector<Variable>& inputs) {
  const NoGradScope no_grad;
  std::vector<Variable> constants;
  for (const Variable& input : inputs) constants.emplace_back(input.data());
  std::vector<Tensor> outputs;
  for (const Variable& output : segment(constants)) outputs.push_back(output.data());
  return outputs;
}

}  // namespace

std::vector<Variable> recompute(const char* name, std::vector<Variable> inputs,
                                std::span<Parameter* const> parameters, Segment segment) {
  if (!is_recording()) return segment(inputs);
  std::vector<Tensor> outputs = run_unrecorded(segment, inputs);
  Recomputation recomputation{std::move(segment), {}};
  std::vector<const Variable*> pointers;
  for (const Variable& input : inputs) {
    recomputation.inputs.emplace_back(input);
    pointers.push_back(&input);
  }
  return record_outputs(name, std::move(outputs), pointers, parameters,
                        [recomputation = std::move(recomputation)](std::vector<Tensor> doutputs,
                                                                   InputGradients& out) mutable {
                          recomputation.run_backward(std::move(doutputs), out);
                        });
}

}  // namespace smoe
