// Parameter: a named weight of the model. Its memory is a range of a ParameterStore's flat buffers;
// ops read value() and accumulate straight into gradient().
#pragma once
#include <string>
#include <vector>

#include "core/tensor.h"

namespace smoe {

class ParameterStore;

/// How a parameter is filled before training.
struct Init {
  enum class Kind : std::uint8_t { normal, constant } kind = Kind::constant;
  double value = 0;  ///< normal: standard deviation; constant: every element

  static Init normal(double std) { return {Kind::normal, std}; }
  static Init constant(double value) { return {Kind::constant, value}; }
};

/// A contiguous part of a parameter under the name it has in Hugging Face checkpoints, e.g. the
/// query rows of a fused projection or one expert's GLU matrix.
struct ParameterPart {
  std::string name;
  Shape shape;
};

class Parameter {
 public:
  struct Options {
    std::vector<ParameterPart> parts = {};  ///< in memory order, covering all; empty: one part
    bool decays = true;                     ///< whether weight decay applies
    bool full_precision = false;            ///< ops read the master weights even in bf16 training
    bool trains = true;  ///< false: frozen; it has no gradient, no moments and no master weights
  };

  /// Declares a parameter; a ParameterStore allocates and initializes it.
  /// Throws: UsageError when the parts do not cover the shape exactly.
  Parameter(std::string name, const Shape& shape, Init init, Options options);
  Parameter(std::string name, const Shape& shape, Init init)
      : Parameter(std::move(name), shape, init, Options{}) {}
  Parameter(const Parameter&) = delete;
  Parameter& operator=(const Parameter&) = delete;

  const std::string& name() const { return name_; }
  /// For profiles: the name without its layer's number, "self_attn.o_proj". Lives as long as the
  /// process.
  const char* label() const { return label_; }
  const Shape& shape() const { return shape_; }
  std::int64_t numel() const { return shape_.numel(); }
  const std::vector<ParameterPart>& parts() const { return options_.parts; }
  bool decays() const { return options_.decays; }
  bool full_precision() const { return options_.full_precision; }
  bool trains() const { return options_.trains; }
  /// Makes it one that is not trained. Throws: UsageError once it is in a ParameterStore.
  void freeze();
  const Init& init() const { return init_; }

  /// The weights as ops read them, in the compute dtype.
  const Tensor& value() const;
  /// The weights as the optimizer updates them, in the master dtype: value() where ops read that
  /// dtype, else a copy. Elements that other ranks update, and those of a parameter that is not
  /// trained, are rounded to the compute dtype.
  Tensor master() const;
  /// The gradient of the step so far. Undefined content until claimed.
  /// Throws: UsageError for a parameter that is not trained.
  const Tensor& gradient() const;
  /// Of gradient(), or of what it would be if the parameter were trained.
  DType gradient_dtype() const;
  /// Call before writing gradient(). Returns the beta to write with: 0 for the first write of a
  /// step, which must overwrite the whole buffer, and 1 for later ones, which must accumulate.
  double claim_gradient();
  /// The store that owns the memory.
  ParameterStore& store() const;

 private:
  friend class ParameterStore;

  std::string name_;
  const char* label_;
  Shape shape_;
  Init init_;
  Options options_;
  Tensor value_, gradient_;
  bool has_gradient_ = false;  // claimed in this step
  int pending_uses_ = 0;       // recorded ops whose backward has not run yet
  ParameterStore* store_ = nullptr;
};

}  // namespace smoe
