// Tape: records the ops of a forward pass and walks them in reverse for the backward pass.
// Recording order is a valid order of execution, so backward needs no sort and no recursion; it
// frees each node as it goes and leaves the tape empty.
#pragma once
#include <functional>
#include <initializer_list>
#include <span>
#include <vector>

#include "autograd/parameter.h"
#include "autograd/variable.h"

namespace smoe {

class Tape;

/// Where a backward leaves the gradients of its op's inputs.
class InputGradients {
 public:
  /// Whether input i wants a gradient; a backward may skip the work for one that does not.
  bool wants(int i) const;
  /// Hands over the gradient of input i, with the input's shape. The tape adds up what several uses
  /// give; it may keep and overwrite the tensor once nobody else holds its storage.
  void give(int i, Tensor gradient);
  /// Whether dy is exactly one because it is the loss's own seed, known without reading it.
  bool is_unit(const Tensor& dy) const;

 private:
  friend class Tape;
  InputGradients(Tape& tape, const char* op, std::span<const std::int64_t> slots)
      : tape_(tape), op_(op), slots_(slots) {}
  Tape& tape_;
  const char* op_;
  std::span<const std::int64_t> slots_;
};

/// Backward of an op with one output. It owns dy: where dy.is_sole_reference(), its storage may be
/// reused. What the closure captures are the op's saved tensors; it runs once, so it may consume
/// them.
using Backward = std::function<void(Tensor dy, InputGradients& out)>;
/// Backward of an op with several outputs; dys[i] is undefined where no gradient reached output i.
using MultiBackward = std::function<void(std::vector<Tensor> dys, InputGradients& out)>;

/// Gradients of watched variables, by variable.
class WatchedGradients {
 public:
  /// dloss/dx. Throws: UsageError unless x came from Tape::watch and reached the loss.
  Tensor of(const Variable& x) const;
  /// As `of`, but an undefined tensor where no gradient reached x.
  Tensor find(const Variable& x) const;

 private:
  friend class Tape;
  std::vector<std::pair<std::int64_t, Tensor>> by_slot_;
  std::uint64_t graph_ = 0;
};

class Tape {
 public:
  Tape();
  ~Tape() { clear(); }
  Tape(const Tape&) = delete;
  Tape& operator=(const Tape&) = delete;

  /// A leaf whose gradient backward() returns.
  Variable watch(Tensor x);

  /// Runs the backward pass from a one-element loss, whose own gradient is one. Gradients of
  /// parameters go to their stores, those of watched variables are returned. Empties the tape.
  /// Throws: UsageError if loss has more than one element, depends on nothing recorded, or its
  /// graph was consumed by an earlier backward.
  WatchedGradients backward(const Variable& loss);

  /// The same from any outputs, given their gradients; an undefined one counts as zero, as does
  /// that of an output that depends on nothing recorded.
  WatchedGradients backward(std::vector<Variable> outputs, std::vector<Tensor> doutputs);

  /// Forgets everything recorded.
  void clear();

  /// Ops recorded and not yet run backward.
  std::size_t size() const { return nodes_.size(); }

 private:
  friend class InputGradients;
  friend std::vector<Variable> record_outputs(const char*, std::vector<Tensor>,
                                              std::span<const Variable* const>,
                                              std::span<Parameter* const>, MultiBackward);
  struct Node {
    const char* op;
    std::vector<std::int64_t> inputs;  // slots; -1 for an input without gradient
    std::int64_t first_output;         // slot of output 0; the others follow
    int num_outputs;
    std::vector<Parameter*> parameters;
    MultiBackward backward;
  };
  struct Slot {
    Shape shape;
    DType dtype;
  };

  std::vector<Variable> push(const char* op, std::vector<Tensor> outputs,
                             std::span<const Variable* const> inputs,
                             std::span<Parameter* const> parameters, MultiBackward backward);
  WatchedGradients sweep();
  std::int64_t add_slot(const Tensor& value);
  void check_belongs(const char* op, const Variable& variable) const;
  void run_last();
  void accumulate(const char* op, std::int64_t slot, Tensor gradient);

  std::vector<Node> nodes_;
  std::vector<Slot> slots_;        // what each gradient must look like
  std::vector<Tensor> gradients_;  // by slot; set while backward runs
  std::vector<std::int64_t> watched_;
  Tensor unit_;
  std::uint64_t graph_;
};

/// Records an op on the current tape and returns its output as a variable. `inputs` in the order
/// backward gives their gradients; `parameters` are those whose gradient backward accumulates.
/// Without a current tape, or if nothing needs a gradient, the output is a constant and `backward`
/// with all it saved is dropped.
Variable record(const char* op, Tensor output, std::initializer_list<const Variable*> inputs,
                std::initializer_list<Parameter*> parameters, Backward backward);
std::vector<Variable> record_outputs(const char* op, std::vector<Tensor> outputs,
                                     std::initializer_list<const Variable*> inputs,
                                     std::initializer_list<Parameter*> parameters,
                                     MultiBackward backward);
/// The same for an op whose numbers of inputs and parameters are known at run time alone.
std::vector<Variable> record_outputs(const char* op, std::vector<Tensor> outputs,
                                     std::span<const Variable* const> inputs,
                                     std::span<Parameter* const> parameters,
                                     MultiBackward backward);

/// Whether ops called now are recorded.
bool is_recording();

/// Makes a tape current for this thread until the guard goes out of scope.
class TapeScope {
 public:
  explicit TapeScope(Tape& tape);
  ~TapeScope();
  TapeScope(const TapeScope&) = delete;
  TapeScope& operator=(const TapeScope&) = delete;

 private:
  friend class NoGradScope;
  explicit TapeScope(std::nullptr_t);
  Tape* previous_;
};

/// Records nothing in this scope.
class NoGradScope {
 public:
  NoGradScope() : scope_(nullptr) {}

 private:
  TapeScope scope_;
};

}  // namespace smoe
