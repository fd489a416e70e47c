// ParameterStore: the flat buffers (weights, gradients) that hold all parameters. Parameters lie in
// reverse order of use, so that backward fills the gradient buffer from its start and a bucket of
// gradients is a contiguous range. Optimizer, gradient norm and communication work on ranges.
//
// Where ops read f32 or f64, the weights they read are the master weights. Where they read bf16, an
// f32 master weight is a bf16 weight and a 16-bit remainder (core/base/split_weight.h), and each
// rank holds the remainders of only those elements that it updates; full_precision parameters, few
// and small, are f32 in a buffer of their own on all ranks.
//
// Parameters that are not trained come after all others: the gradient buffer, remainders and
// optimizer state end before them. They are held as ops read them, whole on each rank.
#pragma once
#include <functional>
#include <span>
#include <vector>

#include "autograd/parameter.h"
#include "core/range.h"

namespace smoe {

class StateVisitor;

class ParameterStore {
 public:
  struct Options {
    DType master = DType::f32;   ///< master weights: f32 or f64
    DType compute = DType::f32;  ///< what ops read: the master dtype, or bf16 beside f32 masters
    std::uint64_t seed = 0;
    bool trains = true;  ///< false: no gradients, and what is trained is zero until loaded
    DType gradients = DType::f32;  ///< f32: the master dtype; bf16: only where ops read bf16
    /// Returns the elements of gradient buffers of `numel` elements that this rank updates,
    /// ascending and disjoint; null: all.
    std::function<std::vector<Range>(std::int64_t numel)> own = nullptr;
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

  /// In buffer order, the reverse of the order of use; those that are not trained come last.
  std::span<Parameter* const> parameters() const { return parameters_; }
  /// Those that are trained.
  std::span<Parameter* const> trained() const { return parameters().first(num_trained_); }
  /// Those that are not.
  std::span<Parameter* const> frozen() const { return parameters().subspan(num_trained_); }
  /// First element of a parameter in the buffers.
  std::int64_t offset_of(const Parameter& parameter) const;
  /// The flat buffers. Elements between parameters are padding and stay zero.
  const Tensor& compute() const { return compute_; }
  const Tensor& gradient() const { return gradient_; }
  DType master_dtype() const { return options_.master; }
  DType gradient_dtype() const {
    return options_.gradients == DType::bf16 ? DType::bf16 : options_.master;
  }
  /// Whether master weights are bf16 weights and remainders.
  bool is_split() const { return options_.compute != options_.master; }
  /// [num_own]: remainders of this rank's elements, u16; undefined unless is_split().
  const Tensor& remainders() const { return remainders_; }
  /// The f32 buffer of full_precision parameters, or compute() unless is_split().
  const Tensor& full_precision() const { return is_split() ? full_precision_ : compute_; }
  /// First element of a parameter's value in full_precision() or compute().
  std::int64_t value_offset_of(const Parameter& parameter) const;
  /// `range` of the buffers, inside the parameter: those elements of its value. Does not wait for
  /// pending values.
  Tensor value_elements(const Parameter& parameter, const Range& range) const;
  /// The master weights of a parameter, as Parameter::master.
  Tensor master(const Parameter& parameter) const;

  /// The elements of the buffers that this rank updates, in ascending order, and their number.
  /// Optimizer state holds them in this order without gaps.
  std::span<const Range> own() const { return own_; }
  std::int64_t num_own() const { return num_own_; }

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

  /// Visits this rank's elements of the master weights of trained parameters, part by part under
  /// the parts' names.
  void visit_state(StateVisitor& visitor);
  /// Visits the parameters that are not trained, part by part, in the master dtype but rounded.
  void visit_frozen(StateVisitor& visitor);
  /// The same for optimizer state [num_own], as `prefix` + name.
  void visit_own(StateVisitor& visitor, std::string_view prefix, const Tensor& state) const;
  /// Calls f(part, first element in the buffers) for all parts of all parameters, in buffer order.
  void for_each_part(const std::function<void(const ParameterPart&, std::int64_t)>& f) const;
  /// Visits a buffer of the layout of compute() part by part as `prefix` + name.
  void visit_buffer(StateVisitor& visitor, std::string_view prefix, const Tensor& buffer) const;

 private:
  friend class GradientStep;
  /// This rank's elements of a part that are consecutive in all buffers.
  struct Piece {
    const Parameter& parameter;
    const ParameterPart& part;
    std::int64_t begin;  ///< in the part
    Range range;         ///< of the buffers
    std::int64_t own;    ///< first one among own elements
  };
  void place_parameters();
  void allocate();
  void initialize(std::uint64_t seed);
  void draw(const Parameter& parameter, std::uint64_t seed);
  void for_each_piece(const std::function<void(const Piece&)>& f) const;
  Tensor join(const Range& range, std::int64_t own) const;
  void split(const Tensor& masters, const Range& range, std::int64_t own) const;
  void split_all(const Tensor& masters, const Range& range) const;
  template <class F>
  void for_each_own(const Range& range, F&& f) const;
  void begin_step();
  void finish_step();
  void zero_if_unwritten(Parameter& parameter);

  std::vector<Parameter*> parameters_;
  std::size_t num_trained_ = 0;                       // they come first
  std::int64_t num_gradients_ = 0;                    // elements of the gradient buffer
  std::vector<std::int64_t> offsets_;                 // in compute and gradient
  std::vector<std::int64_t> full_precision_offsets_;  // -1: not in that buffer
  std::vector<Range> own_;
  std::int64_t num_own_ = 0;
  Options options_;
  Tensor compute_, full_precision_, remainders_, gradient_;
  GradientHooks hooks_;
  bool is_last_backward_ = false;  // of a GradientStep
  std::function<void(const Parameter&)> await_value_;
  bool are_values_pending_ = false;
};

}  // namespace smoe
