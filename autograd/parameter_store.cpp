#include "autograd/parameter_store.h"

#include <algorithm>
#include <set>

#include "core/device.h"
#include "core/random.h"
#include "core/state.h"
#include "kernels/elementwise.h"
#include "kernels/optimizer.h"

namespace smoe {
namespace {

// In elements: parameters are aligned to 256 bytes in f32 and 128 bytes in bf16, which is whole
// cache lines and more than vector loads and TMA require.
constexpr std::int64_t kAlignment = 64;
// Master weights that exist in f32 at one time while they are drawn, in elements.
constexpr std::int64_t kDrawnAtOnce = std::int64_t{1} << 22;

std::int64_t aligned(std::int64_t n) {
  return (n + kAlignment - 1) / kAlignment * kAlignment;
}

}  // namespace

ParameterStore::ParameterStore(std::vector<Parameter*> parameters, const Options& options)
    : parameters_(std::move(parameters)), options_(options) {
  const bool dtypes_fit = (options.master == DType::f32 || options.master == DType::f64) &&
                          (options.compute == options.master ||
                           (options.compute == DType::bf16 && options.master == DType::f32));
  SMOE_CHECK(dtypes_fit, "parameter_store: master must be f32 or f64, compute the same or bf16 ",
             "with f32; got ", name_of(options.master), " and ", name_of(options.compute));
  SMOE_CHECK(options.gradients == DType::f32 ||
                 (options.gradients == DType::bf16 && options.compute == DType::bf16),
             "parameter_store: gradients must be f32, or bf16 with compute in bf16; got ",
             name_of(options.gradients), " with ", name_of(options.compute));
  std::set<std::string> names;
  for (const Parameter* parameter : parameters_) {
    SMOE_CHECK(!parameter->store_, "parameter ", parameter->name(),
               ": already in a ParameterStore");
    for (const ParameterPart& part : parameter->parts())
      SMOE_CHECK(names.insert(part.name).second, "parameter_store: two parameters are named ",
                 part.name);
  }
  std::reverse(parameters_.begin(), parameters_.end());
  const auto frozen = std::stable_partition(parameters_.begin(), parameters_.end(),
                                            [](const Parameter* p) { return p->trains(); });
  num_trained_ = static_cast<std::size_t>(frozen - parameters_.begin());
  place_parameters();
  allocate();
  initialize(options.seed);
}

void ParameterStore::place_parameters() {
  std::int64_t total = 0, total_full_precision = 0;
  for (const Parameter* parameter : parameters_) {
    offsets_.push_back(total);
    total = aligned(total + parameter->numel());
    if (parameter->trains()) num_gradients_ = total;
    const bool is_apart = is_split() && parameter->full_precision();
    full_precision_offsets_.push_back(is_apart ? total_full_precision : -1);
    if (is_apart) total_full_precision = aligned(total_full_precision + parameter->numel());
  }
  own_ = options_.own ? options_.own(num_gradients_) : std::vector<Range>{{0, num_gradients_}};
  for (const Range& range : own_) num_own_ += range.numel();
  compute_ = Tensor::zeros({total}, options_.compute, Category::parameters);
  if (is_split())
    full_precision_ = Tensor::zeros({total_full_precision}, options_.master, Category::parameters);
}

void ParameterStore::allocate() {
  if (options_.trains) {
    if (is_split()) remainders_ = Tensor::zeros({num_own_}, DType::u16, Category::parameters);
    gradient_ = Tensor::zeros({num_gradients_}, gradient_dtype(), Category::gradients);
  }
  for (std::size_t i = 0; i < parameters_.size(); ++i) {
    Parameter& parameter = *parameters_[i];
    parameter.store_ = this;
    parameter.value_ = full_precision_offsets_[i] < 0
                           ? compute_.view(offsets_[i], parameter.shape())
                           : full_precision_.view(full_precision_offsets_[i], parameter.shape());
    if (options_.trains && parameter.trains())
      parameter.gradient_ = gradient_.view(offsets_[i], parameter.shape());
  }
}

void ParameterStore::initialize(std::uint64_t seed) {
  for (const Parameter* parameter : options_.trains ? parameters() : frozen())
    draw(*parameter, seed);
}

void ParameterStore::draw(const Parameter& parameter, std::uint64_t seed) {
  const std::uint64_t stream = hash_name(parameter.name());
  const auto draw_to = [&](const Tensor& masters, std::int64_t first) {
    const Init& init = parameter.init();
    const DType dtype = masters.dtype();
    if (init.kind == Init::Kind::normal)
      kernels::fill_normal(launch(), {.target = masters.data(),
                                      .dtype = dtype,
                                      .numel = masters.numel(),
                                      .std = init.value,
                                      .seed = seed,
                                      .a = stream,
                                      .b = 0,
                                      .first = first});
    else
      kernels::fill(launch(), {masters.data(), dtype, masters.numel(), init.value});
  };
  if (parameter.value_.dtype() == options_.master) return draw_to(parameter.value_, 0);
  const std::int64_t offset = offset_of(parameter), numel = parameter.numel();
  const Tensor memory =
      Tensor::empty({std::min(numel, kDrawnAtOnce)}, options_.master, Category::workspace);
  for (std::int64_t begin = 0; begin < numel; begin += kDrawnAtOnce) {
    const Range range{offset + begin, offset + std::min(begin + kDrawnAtOnce, numel)};
    const Tensor masters = memory.rows(0, range.numel());
    draw_to(masters, begin);
    split_all(masters, range);
  }
}

std::int64_t ParameterStore::offset_of(const Parameter& parameter) const {
  const auto at = std::find(parameters_.begin(), parameters_.end(), &parameter);
  SMOE_CHECK(at != parameters_.end(), "parameter_store: ", parameter.name(),
             " is not in this store");
  return offsets_[at - parameters_.begin()];
}

std::int64_t ParameterStore::num_elements() const {
  std::int64_t sum = 0;
  for (const Parameter* parameter : parameters_) sum += parameter->numel();
  return sum;
}

void ParameterStore::begin_step() {
  for (Parameter* parameter : trained()) parameter->has_gradient_ = false;
  if (hooks_.begin) hooks_.begin();
}

void ParameterStore::finish_step() {
  is_last_backward_ = false;
  for (Parameter* parameter : trained()) zero_if_unwritten(*parameter);
  if (hooks_.finish) hooks_.finish();
}

void ParameterStore::zero_if_unwritten(Parameter& parameter) {
  if (parameter.claim_gradient() == 0)
    kernels::fill(launch(), {parameter.gradient_.data(), gradient_dtype(), parameter.numel(), 0.0});
}

std::int64_t ParameterStore::value_offset_of(const Parameter& parameter) const {
  return parameter.value_.dtype() == compute_.dtype()
             ? offset_of(parameter)
             : full_precision_offsets_[std::find(parameters_.begin(), parameters_.end(),
                                                 &parameter) -
                                       parameters_.begin()];
}

Tensor ParameterStore::value_elements(const Parameter& parameter, const Range& range) const {
  return parameter.value_.view(range.begin - offset_of(parameter), {range.numel()});
}

Tensor ParameterStore::master(const Parameter& parameter) const {
  if (parameter.value_.dtype() == options_.master) return parameter.value_;
  const std::int64_t offset = offset_of(parameter);
  const Range range{offset, offset + parameter.numel()};
  const Tensor masters = Tensor::empty({range.numel()}, options_.master, Category::workspace);
  kernels::scale(launch(), {parameter.value_.data(), options_.compute, masters.data(),
                            options_.master, masters.numel()});
  for_each_own(range, [&](const Range& common, std::int64_t own) {
    masters.view(common.begin - offset, {common.numel()}).copy_from(join(common, own));
  });
  return masters.reshape(parameter.shape());
}

/// Calls f(elements of `range` that this rank updates, the first one's index among own elements).
template <class F>
void ParameterStore::for_each_own(const Range& range, F&& f) const {
  std::int64_t at = 0;
  for (const Range& own : own_) {
    const Range common = overlap(own, range);
    if (common.numel() > 0) f(common, at + common.begin - own.begin);
    at += own.numel();
  }
}

/// A copy of own elements `range` of split master weights.
Tensor ParameterStore::join(const Range& range, std::int64_t own) const {
  const Tensor masters = Tensor::empty({range.numel()}, options_.master, Category::workspace);
  kernels::join_masters(
      launch(), {.weights = compute_.view(range.begin, {range.numel()}).data(),
                 .remainders = remainders_.defined()
                                   ? remainders_.view(own, {range.numel()}).data_as<std::uint16_t>()
                                   : nullptr,
                 .masters = masters.data_as<float>(),
                 .numel = range.numel()});
  return masters;
}

/// The inverse of join.
void ParameterStore::split(const Tensor& masters, const Range& range, std::int64_t own) const {
  kernels::split_masters(
      launch(), {.masters = masters.data_as<float>(),
                 .weights = compute_.view(range.begin, {range.numel()}).data(),
                 .remainders = remainders_.defined()
                                   ? remainders_.view(own, {range.numel()}).data_as<std::uint16_t>()
                                   : nullptr,
                 .numel = range.numel()});
}

/// Sets the weights of all elements of `range`, and the remainders of own ones.
void ParameterStore::split_all(const Tensor& masters, const Range& range) const {
  kernels::split_masters(launch(), {.masters = masters.data_as<float>(),
                                    .weights = compute_.view(range.begin, {range.numel()}).data(),
                                    .remainders = nullptr,
                                    .numel = range.numel()});
  for_each_own(range, [&](const Range& common, std::int64_t own) {
    split(masters.view(common.begin - range.begin, {common.numel()}), common, own);
  });
}

void ParameterStore::for_each_piece(const std::function<void(const Piece&)>& f) const {
  for (std::size_t i = 0; i < num_trained_; ++i) {
    std::int64_t offset = offsets_[i];
    for (const ParameterPart& part : parameters_[i]->parts()) {
      bool is_named = false;
      for_each_own({offset, offset + part.shape.numel()},
                   [&](const Range& range, std::int64_t own) {
                     f({*parameters_[i], part, range.begin - offset, range, own});
                     is_named = true;
                   });
      if (!is_named) f({*parameters_[i], part, 0, {offset, offset}, 0});
      offset += part.shape.numel();
    }
  }
}

void ParameterStore::visit_state(StateVisitor& visitor) {
  for_each_piece([&](const Piece& piece) {
    const bool is_whole = piece.parameter.value_.dtype() == options_.master;
    Tensor masters =
        is_whole ? value_elements(piece.parameter, piece.range) : join(piece.range, piece.own);
    visitor.range(piece.part.name, piece.part.shape, piece.begin, masters);
    if (!is_whole) split(masters, piece.range, piece.own);
  });
}

void ParameterStore::visit_frozen(StateVisitor& visitor) {
  for (const Parameter* parameter : frozen()) {
    std::int64_t offset = 0;
    const bool is_whole = parameter->value_.dtype() == options_.master;
    const Tensor masters = master(*parameter);
    for (const ParameterPart& part : parameter->parts()) {
      Tensor values = masters.view(offset, part.shape);
      visitor.tensor(part.name, values);
      offset += part.shape.numel();
    }
    const std::int64_t begin = offset_of(*parameter);
    if (!is_whole)
      split_all(masters.reshape({parameter->numel()}), {begin, begin + parameter->numel()});
  }
}

void ParameterStore::visit_own(StateVisitor& visitor, std::string_view prefix,
                               const Tensor& state) const {
  SMOE_CHECK(state.shape() == Shape{num_own_}, "parameter_store: optimizer state must be [",
             num_own_, "]; got ", state.shape());
  for_each_piece([&](const Piece& piece) {
    Tensor elements = state.view(piece.own, {piece.range.numel()});
    visitor.range(concat(prefix, piece.part.name), piece.part.shape, piece.begin, elements);
  });
}

void ParameterStore::visit_buffer(StateVisitor& visitor, std::string_view prefix,
                                  const Tensor& buffer) const {
  SMOE_CHECK(buffer.shape() == compute_.shape(), "parameter_store: a buffer must be ",
             compute_.shape(), "; got ", buffer.shape());
  for_each_part([&](const ParameterPart& part, std::int64_t offset) {
    Tensor view = buffer.view(offset, part.shape);
    visitor.tensor(concat(prefix, part.name), view);
  });
}

void ParameterStore::for_each_part(
    const std::function<void(const ParameterPart&, std::int64_t)>& f) const {
  for (std::size_t i = 0; i < parameters_.size(); ++i) {
    std::int64_t offset = offsets_[i];
    for (const ParameterPart& part : parameters_[i]->parts()) {
      f(part, offset);
      offset += part.shape.numel();
    }
  }
}

void ParameterStore::use_ended(Parameter& parameter) {
  if (--parameter.pending_uses_ > 0 || !is_last_backward_ || !hooks_.complete) return;
  zero_if_unwritten(parameter);
  hooks_.complete(parameter);
}

}  // namespace smoe
