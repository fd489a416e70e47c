// Tape: records the ops of a forward pass and runs them in reverse for the backward pass.
// Recording order is a valid execution order, so backward needs no sort and no recursion; it frees
// each node as it goes and leaves the tape empty.
#pragma once
#include <functional>
#include <initializer_list>
#include <span>
#include <vector>

#include "autograd/parameter.h"
#include "autograd/variable.h"
#include "core/base/instrument.h"

namespace smoe {

class Tape;

/// Called with the values at a named site before they are used: each op's outputs as they are
/// recorded and the gradients of its outputs before its backward, under the op's name. Tests use it
/// to inject faults; it may overwrite the values.
using ValueObserver = std::function<void(const char* site, const Tensor& values)>;

/// Receives the gradients of an op's inputs from its backward.
class InputGradients {
 public:
  InputGradients(Tape& tape, const char* op, std::span<const std::int64_t> slots)
      : tape_(tape), op_(op), slots_(slots) {}

  /// Whether input i needs a gradient; a backward may skip the work for one that does not.
  bool wants(int i) const;
  /// Passes on the gradient of input i, which has the input's shape and dtype. The tape accumulates
  /// the gradients of several uses; it may overwrite the tensor once it holds the sole reference to
  /// its storage.
  void give(int i, Tensor gradient);
  /// Says that a part of input i's gradient is in its UnsummedGradient, so that the op that
  /// computed it runs its backward even if no tensor is given.
  void give_part(int i);
  /// Whether dy is exactly one because it is the loss's own gradient, known without reading it.
  bool is_unit(const Tensor& dy) const;
  /// The tape's observer, for a tape that a recomputing backward records on.
  const ValueObserver& observer() const;

 private:
  Tape& tape_;
  const char* op_;
  std::span<const std::int64_t> slots_;
};

/// Backward of an op with one output. It owns dy: if dy.is_sole_reference(), its storage may be
/// reused. The closure's captures are the op's saved tensors; it runs once, so it may consume them.
using Backward = std::function<void(Tensor dy, InputGradients& out)>;
/// Backward of an op with several outputs; dys[i] is undefined if no gradient reached output i.
using MultiBackward = std::function<void(std::vector<Tensor> dys, InputGradients& out)>;

/// Gradients of watched variables, by variable.
class WatchedGradients {
 public:
  WatchedGradients(std::vector<std::pair<std::int64_t, Tensor>> by_slot, std::uint64_t graph)
      : by_slot_(std::move(by_slot)), graph_(graph) {}

  /// dloss/dx. Throws: UsageError unless x came from Tape::watch and reached the loss.
  Tensor of(const Variable& x) const;
  /// As `of`, but returns an undefined tensor if no gradient reached x.
  Tensor find(const Variable& x) const;

 private:
  std::vector<std::pair<std::int64_t, Tensor>> by_slot_;
  std::uint64_t graph_;
};

class Tape {
 public:
  explicit Tape(ValueObserver observer = nullptr);
  ~Tape() { clear(); }
  Tape(const Tape&) = delete;
  Tape& operator=(const Tape&) = delete;

  /// A leaf whose gradient backward() returns.
  Variable watch(Tensor x);

  /// Appends an op and returns its outputs as variables. `inputs` in the order in which `backward`
  /// gives their gradients; `parameters` are those whose gradients it accumulates; null ones and
  /// those that are not trained are ignored. Throws: UsageError if an input belongs to another
  /// graph.
  std::vector<Variable> record(const char* op, std::vector<Tensor> outputs,
                               std::span<const Variable* const> inputs,
                               std::span<Parameter* const> parameters, MultiBackward backward);

  /// Runs the backward pass from a one-element loss, whose own gradient is one. Gradients of
  /// parameters go to their stores, those of watched variables are returned. Empties the tape.
  /// Throws: UsageError if loss has more than one element, depends on nothing recorded, or its
  /// graph was consumed by an earlier backward.
  WatchedGradients backward(const Variable& loss);

  /// The same from any outputs, given their gradients; an undefined gradient counts as zero, as
  /// does that of an output that depends on nothing recorded.
  WatchedGradients backward(std::vector<Variable> outputs, std::vector<Tensor> doutputs);

  /// Discards everything recorded.
  void clear();

  /// Ops recorded and not yet run backward.
  std::size_t size() const { return nodes_.size(); }

  void set_observer(ValueObserver observer) { observer_ = std::move(observer); }

 private:
  friend class InputGradients;
  struct Node {
    const char* op;
    std::vector<std::int64_t> inputs;  // slots; -1 for an input without gradient
    std::int64_t first_output;         // slot of output 0; the others follow
    int num_outputs;
    std::vector<Parameter*> parameters;
    MultiBackward backward;
    Place place;  // of the backward
  };
  struct Slot {
    Shape shape;
    DType dtype;
    bool has_part = false;  // of its gradient, besides what is in gradients_
  };

  WatchedGradients run_nodes();
  std::int64_t add_slot(const Tensor& value);
  void check_belongs(const char* op, const Variable& variable) const;
  void run_last();
  void accumulate(const char* op, std::int64_t slot, Tensor gradient);

  std::vector<Node> nodes_;
  std::vector<Slot> slots_;        // shape and dtype of each gradient
  std::vector<Tensor> gradients_;  // by slot; set while backward runs
  std::vector<std::int64_t> watched_;
  Tensor unit_;  // the loss's gradient
  std::uint64_t graph_;
  ValueObserver observer_;
};

/// Records an op on the current tape as Tape::record does. Without a current tape, or if nothing
/// needs a gradient, the outputs are constants and `backward` is dropped with all it saved.
Variable record(const char* op, Tensor output, std::initializer_list<const Variable*> inputs,
                std::initializer_list<Parameter*> parameters, Backward backward);
std::vector<Variable> record_outputs(const char* op, std::vector<Tensor> outputs,
                                     std::initializer_list<const Variable*> inputs,
                                     std::initializer_list<Parameter*> parameters,
                                     MultiBackward backward);
/// The same for an op whose numbers of inputs and parameters are only known at run time.
std::vector<Variable> record_outputs(const char* op, std::vector<Tensor> outputs,
                                     std::span<const Variable* const> inputs,
                                     std::span<Parameter* const> parameters,
                                     MultiBackward backward);

/// Whether ops called now are recorded.
bool is_recording();
/// Whether an op of these inputs and parameters, of which some may be null, is recorded now.
bool is_recorded(std::span<const Variable* const> inputs, std::span<Parameter* const> parameters);

/// Makes a tape current for this thread until the guard goes out of scope.
class TapeScope {
 public:
  explicit TapeScope(Tape& tape) : TapeScope(&tape) {}
  ~TapeScope();
  TapeScope(const TapeScope&) = delete;
  TapeScope& operator=(const TapeScope&) = delete;

 protected:
  explicit TapeScope(Tape* tape);

 private:
  Tape* previous_;
};

/// Records nothing in this scope.
class NoGradScope : private TapeScope {
 public:
  NoGradScope() : TapeScope(nullptr) {}
};

}  // namespace smoe
