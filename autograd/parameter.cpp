#include "autograd/parameter.h"

#include "autograd/parameter_store.h"
#include "core/base/check.h"
#include "core/names.h"

namespace smoe {
namespace {

// "model.layers.3.self_attn.o_proj.weight" -> "self_attn.o_proj"
std::string label_of(std::string name) {
  constexpr std::string_view kLayers = "layers.", kWeight = ".weight";
  if (name.ends_with(kWeight)) name.resize(name.size() - kWeight.size());
  const std::size_t layers = name.find(kLayers);
  if (layers == std::string::npos) return name;
  const std::size_t dot = name.find('.', layers + kLayers.size());
  return dot == std::string::npos ? name : name.substr(dot + 1);
}

}  // namespace

Parameter::Parameter(std::string name, const Shape& shape, Init init, Options options)
    : name_(std::move(name)),
      label_(interned(label_of(name_))),
      shape_(shape),
      init_(init),
      options_(std::move(options)) {
  if (options_.parts.empty()) options_.parts.push_back({name_, shape_});
  std::int64_t covered = 0;
  for (const ParameterPart& part : options_.parts) covered += part.shape.numel();
  SMOE_CHECK(covered == numel(), "parameter ", name_, ": its parts hold ", covered,
             " elements, its shape ", shape_, " ", numel());
}

const Tensor& Parameter::value() const {
  SMOE_CHECK(value_.defined(), "parameter ", name_, ": not in a ParameterStore yet");
  if (store_->are_values_pending()) store_->await_value(*this);
  return value_;
}

Tensor Parameter::master() const {
  return store().master(*this);
}

void Parameter::freeze() {
  SMOE_CHECK(!store_, "parameter ", name_, ": is already in a ParameterStore");
  options_.trains = false;
}

const Tensor& Parameter::gradient() const {
  SMOE_CHECK(trains(), "parameter ", name_, ": has no gradient, since it is not trained");
  SMOE_CHECK(gradient_.defined(), "parameter ", name_,
             store_ ? ": its ParameterStore does not train" : ": not in a ParameterStore yet");
  return gradient_;
}

DType Parameter::gradient_dtype() const {
  return store().gradient_dtype();
}

ParameterStore& Parameter::store() const {
  SMOE_CHECK(store_, "parameter ", name_, ": not in a ParameterStore yet");
  return *store_;
}

double Parameter::claim_gradient() {
  const double beta = has_gradient_ ? 1 : 0;
  has_gradient_ = true;
  return beta;
}

}  // namespace smoe
