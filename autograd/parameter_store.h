// ParameterStore: the flat arenas (master weights, compute weights, gradients) behind all
// parameters. Parameters lie in reverse order of use, so that backward fills the gradient arena
// from its start and a bucket of gradients is a range. Optimizer, norm and communication work on
// ranges.
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
    bool trains = true;  ///< else there are no gradients, and all weights are zero until loaded
  };

  /// One run of parameters that are treated alike. Offsets and sizes are in elements of the arenas.
  struct DecayRange {
    std::int64_t offset;
    std::int64_t numel;
    bool decays;
  };

  using GradientHook = std::function<void(Parameter&)>;

  /// Gives `parameters`, listed in order of use, memory and initial values: each is drawn from the
  /// stream (seed, its name). They must outlive the store.
  /// Throws: UsageError for a repeated name or an illegal pair of dtypes.
  ParameterStore(std::vector<Parameter*> parameters, const Options& options);
  ParameterStore(const ParameterStore&) = delete;
  ParameterStore& operator=(const ParameterStore&) = delete;

  /// In arena order, the reverse of the order of use.
  std::span<Parameter* const> parameters() const { return parameters_; }
  /// First element of a parameter in the arenas.
  std::int64_t offset_of(const Parameter& parameter) const;
  /// The arenas: [arena elements]. Elements between parameters are padding and stay zero.
  const Tensor& master() const { return master_; }
  const Tensor& compute() const { return compute_; }
  const Tensor& gradient() const { return gradient_; }
  /// All parameters as few ranges as possible, in arena order; padding is in no range.
  std::span<const DecayRange> ranges() const { return ranges_; }
  /// Parameters' elements, padding not counted.
  std::int64_t num_elements() const;

  /// Starts a step: the next writer of each gradient overwrites it.
  void begin_step();
  /// Says whether the next backward is the step's last; only then do hooks fire.
  void set_last_micro_batch(bool last) { is_last_micro_batch_ = last; }
  /// `hook(parameter)` is called by the step's last backward as soon as nothing more will be added
  /// to that parameter's gradient; what nobody wrote is zero then.
  void set_gradient_hook(GradientHook hook) { hook_ = std::move(hook); }
  /// Ends a step: gradients nobody wrote become zero.
  void finish_gradients();
  /// Copies the master weights to the compute weights, rounding them; nothing where they are one.
  void refresh_compute();
  /// The master weights, part by part under the parts' names. After loading, call
  /// refresh_compute().
  void visit_state(StateVisitor& visitor);
  /// Calls f(part, first element in the arenas) for all parts of all parameters, in arena order.
  void for_each_part(const std::function<void(const ParameterPart&, std::int64_t)>& f) const;
  /// Shows another arena of the same layout (an optimizer's moments) part by part as `prefix` +
  /// name.
  void visit_arena(StateVisitor& visitor, std::string_view prefix, const Tensor& arena) const;

 private:
  friend class Tape;
  void place();
  void initialize(std::uint64_t seed);
  void gradient_complete(Parameter& parameter);
  void zero_if_unwritten(Parameter& parameter);

  std::vector<Parameter*> parameters_;
  std::vector<std::int64_t> offsets_;
  std::vector<DecayRange> ranges_;
  Options options_;
  Tensor master_, compute_, gradient_;
  GradientHook hook_;
  bool is_last_micro_batch_ = true;
};

}  // namespace smoe
