#include "autograd/tape.h"

#include <algorithm>
#include <atomic>

#include "autograd/parameter_store.h"
#include "core/device.h"
#include "core/memory_log.h"
#include "kernels/elementwise.h"

namespace smoe {
namespace {

thread_local Tape* current_tape = nullptr;

std::uint64_t next_graph() {
  static std::atomic<std::uint64_t> last{0};
  return ++last;
}

// What a profile shows beside the op: its first parameter, or null.
const char* part_of(std::span<Parameter* const> parameters) {
  for (const Parameter* parameter : parameters)
    if (parameter) return parameter->label();
  return nullptr;
}

// Tells profiler and memory log that a forward op has done its work.
void end_op(const char* op, const char* part) {
  name_new_blocks(op, part);
  if (Instrument* const instrument = current_instrument()) instrument->end_op(op, part);
}

}  // namespace

bool InputGradients::wants(int i) const {
  return slots_[i] >= 0;
}

void InputGradients::give(int i, Tensor gradient) {
  if (wants(i)) tape_.accumulate(op_, slots_[i], std::move(gradient));
}

void InputGradients::give_part(int i) {
  if (wants(i)) tape_.slots_[slots_[i]].has_part = true;
}

bool InputGradients::is_unit(const Tensor& dy) const {
  return dy.shares_storage(tape_.unit_);
}

const ValueObserver& InputGradients::observer() const {
  return tape_.observer_;
}

Tensor WatchedGradients::find(const Variable& x) const {
  for (const auto& [slot, gradient] : by_slot_)
    if (x.place().graph == graph_ && x.place().slot == slot) return gradient;
  return Tensor();
}

Tensor WatchedGradients::of(const Variable& x) const {
  Tensor gradient = find(x);
  SMOE_CHECK(gradient.defined(),
             "backward: no gradient reached this variable, or it was not watched");
  return gradient;
}

Tape::Tape(ValueObserver observer) : graph_(next_graph()), observer_(std::move(observer)) {}

std::int64_t Tape::add_slot(const Tensor& value) {
  slots_.push_back({value.shape(), value.dtype()});
  return static_cast<std::int64_t>(slots_.size()) - 1;
}

Variable Tape::watch(Tensor x) {
  const std::int64_t slot = add_slot(x);
  watched_.push_back(slot);
  return {std::move(x), {slot, graph_}};
}

std::vector<Variable> Tape::record(const char* op, std::vector<Tensor> outputs,
                                   std::span<const Variable* const> inputs,
                                   std::span<Parameter* const> parameters, MultiBackward backward) {
  Node node{.op = op,
            .inputs = {},
            .first_output = static_cast<std::int64_t>(slots_.size()),
            .num_outputs = static_cast<int>(outputs.size()),
            .parameters = {},
            .backward = std::move(backward),
            .place = {.phase = Phase::backward,
                      .layer = current_place().layer,
                      .micro_batch = current_place().micro_batch,
                      .op = op,
                      .part = part_of(parameters)}};
  for (const Variable* input : inputs) {
    if (input->requires_grad()) check_belongs(op, *input);
    node.inputs.push_back(input->place().slot);
  }
  for (Parameter* parameter : parameters) {
    if (!parameter || !parameter->trains()) continue;
    node.parameters.push_back(parameter);
    parameter->store().use_begun(*parameter);
  }
  std::vector<Variable> variables;
  for (Tensor& output : outputs) {
    if (observer_) observer_(op, output);
    const std::int64_t slot = add_slot(output);
    variables.emplace_back(std::move(output), Variable::Place{slot, graph_});
  }
  nodes_.push_back(std::move(node));
  return variables;
}

void Tape::check_belongs(const char* op, const Variable& variable) const {
  SMOE_CHECK(
      variable.place().graph == graph_, op,
      ": a variable belongs to another tape, or to a graph that an earlier backward consumed; "
      "run the forward pass again");
}

WatchedGradients Tape::backward(const Variable& loss) {
  SMOE_CHECK(loss.requires_grad(),
             "backward: the loss depends on nothing that was recorded; is a TapeScope active?");
  check_belongs("backward", loss);
  SMOE_CHECK(loss.data().numel() == 1, "backward: the loss must have one element; got shape ",
             loss.shape());
  unit_ = Tensor::empty_like(loss.data());
  kernels::fill(launch(), {unit_.data(), unit_.dtype(), 1, 1.0});
  gradients_.assign(slots_.size(), Tensor());
  gradients_[loss.place().slot] = unit_;
  return run_nodes();
}

WatchedGradients Tape::backward(std::vector<Variable> outputs, std::vector<Tensor> doutputs) {
  SMOE_CHECK(outputs.size() == doutputs.size(), "backward: ", outputs.size(),
             " outputs need as many gradients; got ", doutputs.size());
  gradients_.assign(slots_.size(), Tensor());
  for (std::size_t i = 0; i < outputs.size(); ++i) {
    if (!doutputs[i].defined() || !outputs[i].requires_grad()) continue;
    check_belongs("backward", outputs[i]);
    accumulate("backward", outputs[i].place().slot, std::move(doutputs[i]));
  }
  outputs.clear();  // releases their storage, so that ops can reuse it
  return run_nodes();
}

// Runs every node from the last to the first, starting from the gradients set so far.
WatchedGradients Tape::run_nodes() {
  while (!nodes_.empty()) run_last();
  std::vector<std::pair<std::int64_t, Tensor>> by_slot;
  for (const std::int64_t slot : watched_) by_slot.emplace_back(slot, std::move(gradients_[slot]));
  WatchedGradients result(std::move(by_slot), graph_);
  clear();
  return result;
}

// The node stays on the list while it runs: its parameters count as in use while a recomputing
// backward records the same parameters on a tape of its own, and clear() finds them if it throws.
void Tape::run_last() {
  Node& node = nodes_.back();
  std::vector<Tensor> dys;
  bool reached = false;
  for (int i = 0; i < node.num_outputs; ++i) {
    dys.push_back(std::move(gradients_[node.first_output + i]));
    reached = reached || slots_[node.first_output + i].has_part;
    if (!dys.back().defined()) continue;
    if (observer_) observer_(node.op, dys.back());
    reached = true;
  }
  if (reached) {
    const PlaceScope place(node.place);
    InputGradients out(*this, node.op, node.inputs);
    node.backward(std::move(dys), out);
  }
  const std::vector<Parameter*> parameters = std::move(node.parameters);
  nodes_.pop_back();
  for (Parameter* parameter : parameters) parameter->store().use_ended(*parameter);
}

void Tape::accumulate(const char* op, std::int64_t slot, Tensor gradient) {
  const Slot& expected = slots_[slot];
  SMOE_INTERNAL_CHECK(gradient.shape() == expected.shape && gradient.dtype() == expected.dtype, op,
                      ": backward gave a gradient ", gradient.shape(), " ",
                      name_of(gradient.dtype()), " for an input ", expected.shape, " ",
                      name_of(expected.dtype));
  Tensor& sum = gradients_[slot];
  if (!sum.defined()) {
    sum = std::move(gradient);
    return;
  }
  Tensor target = sum.is_sole_reference()        ? sum
                  : gradient.is_sole_reference() ? gradient
                                                 : Tensor::empty_like(sum);
  kernels::add(launch(),
               {sum.data(), gradient.data(), target.data(), target.dtype(), target.numel()});
  sum = std::move(target);
}

void Tape::clear() {
  for (const Node& node : nodes_)
    for (Parameter* parameter : node.parameters) parameter->store().use_dropped(*parameter);
  nodes_.clear();
  gradients_.clear();
  slots_.clear();
  watched_.clear();
  unit_ = Tensor();
  graph_ = next_graph();
}

Variable record(const char* op, Tensor output, std::initializer_list<const Variable*> inputs,
                std::initializer_list<Parameter*> parameters, Backward backward) {
  std::vector<Tensor> outputs;
  outputs.push_back(std::move(output));
  auto run = [backward = std::move(backward)](std::vector<Tensor> dys, InputGradients& out) {
    backward(std::move(dys[0]), out);
  };
  return std::move(record_outputs(op, std::move(outputs), inputs, parameters, std::move(run))[0]);
}

std::vector<Variable> record_outputs(const char* op, std::vector<Tensor> outputs,
                                     std::initializer_list<const Variable*> inputs,
                                     std::initializer_list<Parameter*> parameters,
                                     MultiBackward backward) {
  return record_outputs(op, std::move(outputs), std::span(inputs.begin(), inputs.size()),
                        std::span(parameters.begin(), parameters.size()), std::move(backward));
}

std::vector<Variable> record_outputs(const char* op, std::vector<Tensor> outputs,
                                     std::span<const Variable* const> inputs,
                                     std::span<Parameter* const> parameters,
                                     MultiBackward backward) {
  end_op(op, part_of(parameters));
  if (is_recorded(inputs, parameters))
    return current_tape->record(op, std::move(outputs), inputs, parameters, std::move(backward));
  std::vector<Variable> constants;
  for (Tensor& output : outputs) constants.emplace_back(std::move(output));
  return constants;
}

bool is_recording() {
  return current_tape != nullptr;
}

bool is_recorded(std::span<const Variable* const> inputs, std::span<Parameter* const> parameters) {
  return current_tape && (std::any_of(parameters.begin(), parameters.end(),
                                      [](const Parameter* p) { return p && p->trains(); }) ||
                          std::any_of(inputs.begin(), inputs.end(),
                                      [](const Variable* x) { return x->requires_grad(); }));
}

TapeScope::TapeScope(Tape* tape) : previous_(current_tape) {
  current_tape = tape;
}
TapeScope::~TapeScope() {
  current_tape = previous_;
}

}  // namespace smoe
