#include "train/checkpoint/state_copy.h"

#include "core/device.h"

namespace smoe {

class StateCopy::Recorder final : public StateVisitor {
 public:
  explicit Recorder(std::vector<Value>& values) : values_(values) {}

  void tensor(std::string_view name, Tensor& value) override {
    values_.push_back({std::string(name), copy_of(value)});
  }
  void range(std::string_view name, const Shape& shape, std::int64_t begin,
             Tensor& elements) override {
    values_.push_back({std::string(name), RangeCopy{shape, begin, copy_of(elements)}});
  }
  void integer(std::string_view name, std::int64_t& value) override {
    values_.push_back({std::string(name), value});
  }
  void real(std::string_view name, double& value) override {
    values_.push_back({std::string(name), value});
  }

 private:
  static Tensor copy_of(const Tensor& value) {
    const Tensor copy = [&] {
      const Stream host;
      const StreamGuard guard(host);
      return Tensor::empty(value.shape(), value.dtype(), Category::workspace);
    }();
    copy.copy_from(value);
    return copy;
  }

  std::vector<Value>& values_;
};

void StateCopy::take(const std::function<void(StateVisitor&)>& visit) {
  values_.clear();
  Recorder recorder(values_);
  visit(recorder);
}

void StateCopy::visit(StateVisitor& visitor) {
  for (auto& [name, value] : values_) {
    if (auto* tensor = std::get_if<Tensor>(&value)) {
      visitor.tensor(name, *tensor);
    } else if (auto* range = std::get_if<RangeCopy>(&value)) {
      visitor.range(name, range->shape, range->begin, range->elements);
    } else if (auto* integer = std::get_if<std::int64_t>(&value)) {
      visitor.integer(name, *integer);
    } else {
      visitor.real(name, std::get<double>(value));
    }
  }
}

}  // namespace smoe
