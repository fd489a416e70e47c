#include "autograd/recompute.h"

#include "autograd/tape.h"

namespace smoe {
namespace {

// Both runs of one segment, and what is kept between them.
struct Recomputed {
  Segment segment;
  std::vector<Tensor> inputs;

  std::vector<Tensor> run_unrecorded() const {
    const NoGradScope no_grad;
    const std::vector<Variable> constants(inputs.begin(), inputs.end());
    std::vector<Tensor> outputs;
    for (const Variable& output : segment(constants)) outputs.push_back(output.data());
    return outputs;
  }

  // Hands the kept inputs over to the inner tape, so that its ops may write over them.
  void run_backward(std::vector<Tensor> doutputs, InputGradients& out) {
    Tape tape;
    const TapeScope scope(tape);
    std::vector<Variable> watched;
    for (std::size_t i = 0; i < inputs.size(); ++i) {
      Tensor input = std::move(inputs[i]);
      watched.push_back(out.wants(static_cast<int>(i)) ? tape.watch(std::move(input))
                                                       : Variable(std::move(input)));
    }
    const WatchedGradients gradients = tape.backward(segment(watched), std::move(doutputs));
    for (std::size_t i = 0; i < watched.size(); ++i)
      if (Tensor gradient = gradients.find(watched[i]); gradient.defined())
        out.give(static_cast<int>(i), std::move(gradient));
  }
};

}  // namespace

std::vector<Variable> recompute(const char* name, std::vector<Variable> inputs,
                                std::span<Parameter* const> parameters, Segment segment) {
  if (!is_recording()) return segment(inputs);
  Recomputed recomputed{std::move(segment), {}};
  std::vector<const Variable*> pointers;
  for (const Variable& input : inputs) {
    recomputed.inputs.push_back(input.data());
    pointers.push_back(&input);
  }
  std::vector<Tensor> outputs = recomputed.run_unrecorded();
  return record_outputs(name, std::move(outputs), pointers, parameters,
                        [recomputed = std::move(recomputed)](std::vector<Tensor> doutputs,
                                                             InputGradients& out) mutable {
                          recomputed.run_backward(std::move(doutputs), out);
                        });
}

}  // namespace smoe
