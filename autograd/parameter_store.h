// ParameterStore: the flat buffers (master weights, compute weights, gradients) that hold all
// parameters. Parameters lie in reverse order of use, so that backward fills the gradient buffer
// from its start and a bucket of gradients is a contiguous range. Optimizer, gradient norm and
// communication work on ranges.
#pragma once
#include <functional>
#include <span>
#include <vector>

#include "autograd/parameter.h"

namespace smoe {

class StateVisitor;

class ParameterStore {
 public:
  struct Options {
    DType master = DType::f32;   ///< master weights and gradients: f32 or f64
    DType compute = DType::f32;  ///< what ops read: the master dtype, or bf16 beside f32 masters
    std::uint64_t seed = 0;
    bool trains = true;  ///< false: no gradients, and all weights are zero until loaded
  };

  /// A contiguous range of parameters with the same weight decay, in elements of the buffers.
  struct DecayRange {
    std::int64_t offset;
    std::int64_t numel;
    bool decays;
  };

  /// Called by GradientStep, to reduce gradients over ranks while backward runs; each may be null.
  struct GradientHooks {
    std::function<void()> begin = nullptr;  ///< the step begins
    /// No op of the step will write this gradient any more. Called once per parameter that was
    /// used, in the step's last backward pass; a gradient that no op wrote is zero by then.
    std::function<void(Parameter&)> complete = nullptr;
    std::function<void()> finish =
        nullptr;  ///< all gradients are complete; returns when they are reduced
  };

  /// Allocates `parameters`, listed in order of use, and draws their initial values from the random
  /// stream (seed, name). They must outlive the store.
  /// Throws: UsageError for a repeated name or an illegal pair of dtypes.
  ParameterStore(std::vector<Parameter*> parameters, const Options& options);
  ParameterStore(const ParameterStore&) = delete;
  ParameterStore& operator=(const ParameterStore&) = delete;

  /// In buffer order, the reverse of the order of use.
  std::span<Parameter* const> parameters() const { return parameters_; }
  /// First element of a parameter in the buffers.
  std::int64_t offset_of(const Parameter& parameter) const;
  /// The flat buffers. Elements between parameters are padding and stay zero.
  const Tensor& master() const { return master_; }
  const Tensor& compute() const { return compute_; }
  const Tensor& gradient() const { return gradient_; }
  /// All parameters as few ranges as possible, in buffer order; padding is in no range.
  std::span<const DecayRange> ranges() const { return ranges_; }
  /// Elements of all parameters, without padding.
  std::int64_t num_elements() const;

  void set_gradient_hooks(GradientHooks hooks) { hooks_ = std::move(hooks); }
  /// Called by Tape: an op that accumulates this parameter's gradient was recorded, ...
  void use_begun(Parameter& parameter) { ++parameter.pending_uses_; }
  /// ... has run backward, ...
  void use_ended(Parameter& parameter);
  /// ... or was discarded.
  void use_dropped(Parameter& parameter) { --parameter.pending_uses_; }

  /// `await(parameter)` makes work queued on the current stream afterwards see that parameter's
  /// value; Parameter::value() calls it while values are pending, on their way from other ranks.
  void set_await_value(std::function<void(const Parameter&)> await) {
    await_value_ = std::move(await);
  }
  void set_values_pending(bool are_pending) { are_values_pending_ = are_pending; }
  bool are_values_pending() const { return are_values_pending_; }
  void await_value(const Parameter& parameter) const { await_value_(parameter); }

  /// Copies the master weights to the compute weights, rounded; no-op if they share storage.
  void refresh_compute();
  /// Visits the master weights, part by part under the parts' names. Call refresh_compute() after
  /// loading.
  void visit_state(StateVisitor& visitor);
  /// Calls f(part, first element in the buffers) for all parts of all parameters, in buffer order.
  void for_each_part(const std::function<void(const ParameterPart&, std::int64_t)>& f) const;
  /// Visits another buffer of the same layout (an optimizer's moments) part by part as `prefix` +
  /// name.
  void visit_buffer(StateVisitor& visitor, std::string_view prefix, const Tensor& buffer) const;

 private:
  friend class GradientStep;
  void allocate();
  void initialize(std::uint64_t seed);
  void begin_step();
  void finish_step();
  void zero_if_unwritten(Parameter& parameter);

  std::vector<Parameter*> parameters_;
  std::vector<std::int64_t> offsets_;
  std::vector<DecayRange> ranges_;
  Options options_;
  Tensor master_, compute_, gradient_;
  GradientHooks hooks_;
  bool is_last_backward_ = false;  // of a GradientStep
  std::function<void(const Parameter&)> await_value_;
  bool are_values_pending_ = false;
};

}  // namespace smoe
