#include "train/bench/op_variant.h"

namespace smoe {

OpVariant::OpVariant(const ExpertInputs& inputs, const std::vector<Tensor>& weights,
                     bool overwrites_x)
    : ExpertVariant(inputs), overwrites_x_(overwrites_x) {
  std::vector<Parameter*> all;
  for (const Tensor& weight : weights) {
    const std::string name = "weight" + std::to_string(all.size());
    parameters_.push_back(std::make_unique<Parameter>(name, weight.shape(), Init::constant(0)));
    all.push_back(parameters_.back().get());
  }
  const DType dtype = inputs.shape.dtype;
  store_.emplace(std::move(all),
                 ParameterStore::Options{.master = accumulation_dtype(dtype), .compute = dtype});
  for (std::size_t i = 0; i < weights.size(); ++i) parameters_[i]->value().copy_from(weights[i]);
}

Tensor OpVariant::forward(bool trains) {
  if (!trains) {
    const NoGradScope no_grad;
    return run(in_.x, in_.gates).data();
  }
  const TapeScope scope(tape_);
  step_.emplace(*store_);
  Tensor own = in_.x;
  if (overwrites_x_) own = dx.defined() ? std::move(dx) : in_.x.clone(Category::activations);
  dx = Tensor();
  Variable x = tape_.watch(std::move(own));
  x_ = Variable(Tensor(), x.place());
  const Variable y = run(std::move(x), tape_.watch(in_.gates));
  y_ = Variable(Tensor(), y.place());
  return y.data();
}

void OpVariant::backward() {
  const WatchedGradients gradients = tape_.backward({y_}, {in_.dout});
  step_.reset();
  dx = gradients.of(x_);
  Tensor* const targets[] = {&dw1, &dw2, &dw3};
  for (std::size_t i = 0; i < parameters_.size(); ++i) *targets[i] = parameters_[i]->gradient();
}

}  // namespace smoe
