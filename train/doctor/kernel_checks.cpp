// Kernels against the CPU's in double: the same values go through the same ops on both.
#include "train/doctor/kernel_checks.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <memory>
#include <optional>

#include "autograd/gradient_step.h"
#include "autograd/ops.h"
#include "autograd/parameter_store.h"
#include "autograd/tape.h"
#include "core/random.h"

namespace smoe {
namespace {

using Values = std::vector<double>;

// T tokens of width D, E experts of width F with K per token: no multiple of a tile.
constexpr std::int64_t kBatch = 2, kSeqLen = 75, kTokens = kBatch * kSeqLen, kWidth = 64,
                       kExpertWidth = 96, kNumExperts = 6, kTopK = 2, kVocab = 211;
constexpr AttentionShape kAttention{
    .batch = kBatch, .seq_len = kSeqLen, .num_heads = 4, .num_kv_heads = 2, .head_dim = 32};

Tensor tensor_of(const Values& values, const Shape& shape, DType dtype) {
  return dispatch_floating(dtype, [&](auto type) {
    using T = decltype(type);
    std::vector<T> typed;
    for (const double value : values) typed.push_back(static_cast<T>(static_cast<float>(value)));
    return Tensor::from(typed, shape);
  });
}

Values values_of(const Tensor& tensor) {
  return dispatch_floating(tensor.dtype(), [&](auto type) {
    using T = decltype(type);
    const auto typed = tensor.to_vector<T>();
    Values values;
    for (const T& value : typed) values.push_back(static_cast<double>(value));
    return values;
  });
}

// Normal values that bf16 can hold, so that all dtypes see the same ones.
Values normal_values(const std::string& name, std::int64_t count) {
  RandomStream random(17, hash_name(name));
  Values values;
  for (std::int64_t i = 0; i < count; ++i)
    values.push_back(static_cast<float>(static_cast<bf16>(static_cast<float>(random.normal()))));
  return values;
}

// A weight of a family's ops.
struct Weight {
  Shape shape;
  double std = 0;  // of its normal values; 0: all are 1, and ops read it in full precision
};

// One pass of a family's ops on the current device, in one dtype.
class Pass {
 public:
  Pass(DType dtype, const std::vector<Weight>& weights) : dtype_(dtype) {
    std::vector<Parameter*> pointers;
    for (const Weight& weight : weights) {
      const Init init = weight.std > 0 ? Init::normal(weight.std) : Init::constant(1);
      weights_.push_back(
          std::make_unique<Parameter>("weight" + std::to_string(weights_.size()), weight.shape,
                                      init, Parameter::Options{.full_precision = weight.std == 0}));
      pointers.push_back(weights_.back().get());
    }
    if (weights.empty()) return;
    store_ = std::make_unique<ParameterStore>(
        std::move(pointers),
        ParameterStore::Options{.master = accumulation_dtype(dtype), .compute = dtype, .seed = 5});
  }

  Parameter& weight(std::size_t i) { return *weights_[i]; }

  /// An input whose gradient is compared.
  Variable input(const std::string& name, const Shape& shape, bool accumulates = false) {
    const DType dtype = accumulates ? accumulation_dtype(dtype_) : dtype_;
    watched_.push_back(tape_.watch(tensor_of(normal_values(name, shape.numel()), shape, dtype)));
    return watched_.back();
  }

  /// Runs forward, and backward from random gradients of the outputs. Returns outputs, gradients of
  /// the inputs and of the parameters.
  std::vector<Values> run(const std::function<std::vector<Variable>(Pass&)>& forward) {
    std::vector<Values> results;
    std::vector<Variable> outputs;
    std::vector<Tensor> doutputs;
    if (store_) step_.emplace(*store_, 1);
    {
      const TapeScope scope(tape_);
      outputs = forward(*this);
    }
    for (const Variable& output : outputs) {
      results.push_back(values_of(output.data()));
      doutputs.push_back(tensor_of(normal_values("doutput", output.data().numel()), output.shape(),
                                   output.dtype()));
    }
    // A loss computes its gradient in its forward, for a loss whose own gradient is one.
    const bool is_loss = outputs.size() == 1 && outputs[0].data().numel() == 1;
    const WatchedGradients gradients =
        is_loss ? tape_.backward(outputs[0])
                : tape_.backward(std::move(outputs), std::move(doutputs));
    for (const Variable& x : watched_)
      if (const Tensor gradient = gradients.find(x); gradient.defined())
        results.push_back(values_of(gradient));
    if (store_)
      for (const Parameter* parameter : store_->parameters())
        results.push_back(values_of(parameter->gradient()));
    return results;
  }

 private:
  DType dtype_;
  std::vector<std::unique_ptr<Parameter>> weights_;
  std::unique_ptr<ParameterStore> store_;
  std::optional<GradientStep> step_;
  Tape tape_;
  std::vector<Variable> watched_;
};

struct Family {
  std::string name;
  std::vector<Weight> weights;
  std::function<std::vector<Variable>(Pass&)> forward;
};

Tensor ids_below(std::int64_t limit, const Shape& shape) {
  std::vector<std::int32_t> ids;
  for (std::int64_t i = 0; i < shape.numel(); ++i)
    ids.push_back(static_cast<std::int32_t>((i * 37 + i / 5) % limit));
  return Tensor::from(ids, shape);
}

// The largest difference over the largest value, of any result.
double worst_error(const std::vector<Values>& results, const std::vector<Values>& reference) {
  double worst = results.size() == reference.size() ? 0 : INFINITY;
  for (std::size_t r = 0; r < std::min(results.size(), reference.size()); ++r) {
    double difference = 0, largest = 1e-30;
    for (std::size_t i = 0; i < results[r].size(); ++i) {
      const double d = std::abs(results[r][i] - reference[r][i]);
      difference = std::isfinite(d) ? std::max(difference, d) : INFINITY;
      largest = std::max(largest, std::abs(reference[r][i]));
    }
    worst = std::max(worst, difference / largest);
  }
  return worst;
}

std::vector<Values> run_family(const Family& family, DType dtype) {
  return Pass(dtype, family.weights).run(family.forward);
}

std::vector<Values> reference_of(const Family& family) {
  const Stream cpu;
  const StreamGuard guard(cpu);
  return run_family(family, DType::f64);
}

Finding check_family(const Family& family, DType dtype) {
  // Sums of some hundred terms, each rounded to 8 or 24 bits.
  const double allowed = dtype == DType::bf16 ? 0.03 : 1e-4;
  const std::string subject = fmt::format("{} kernels, {}", family.name, name_of(dtype));
  try {
    const double error = worst_error(run_family(family, dtype), reference_of(family));
    const std::string result = fmt::format("largest error {:.1e} of the largest value", error);
    if (error <= allowed) return {.subject = subject, .result = result};
    return {Health::red, subject, fmt::format("{}; at most {:.0e} is right", result, allowed),
            "wrong results: check this device's memory, driver and build before training on it"};
  } catch (const Error& error) {
    return {Health::red, subject, error.what(), "these kernels cannot run on this device"};
  }
}

}  // namespace

Findings check_kernels() {
  const auto plan = [] {
    return plan_routing(ids_below(kNumExperts, {kTokens, kTopK}), kNumExperts);
  };
  const Shape tokens{kTokens, kWidth};
  const std::vector<Family> families = {
      {"GEMM",
       {{{48, kWidth}, 0.125}},
       [&](Pass& p) { return std::vector{linear(p.input("x", tokens), p.weight(0))}; }},
      {"embedding",
       {{{kVocab, kWidth}, 1}},
       [&](Pass& p) { return std::vector{embedding(ids_below(kVocab, {kTokens}), p.weight(0))}; }},
      {"RMSNorm",
       {{{kWidth}, 0}},
       [&](Pass& p) { return std::vector{rms_norm(p.input("x", tokens), p.weight(0), 1e-5)}; }},
      {"rotary and attention",
       {},
       [&](Pass& p) {
         const Variable qkv = p.input("qkv", {kTokens, kAttention.packed_width()});
         return std::vector{causal_attention(rotary(qkv, kAttention, 10000), kAttention)};
       }},
      {"router",
       {},
       [&](Pass& p) {
         const Variable logits = p.input("logits", {kTokens, kNumExperts}, true);
         const Routing routing = route(logits, RouterScore::softmax_topk_renorm, plan());
         return std::vector{routing.gates, routing.balance_loss, routing.z_loss};
       }},
      {"expert MLP",
       {{{kNumExperts, 2, kExpertWidth, kWidth}, 0.125},
        {{kNumExperts, kWidth, kExpertWidth}, 0.1}},
       [&](Pass& p) {
         const Variable gates = p.input("gates", {kTokens, kTopK}, true);
         return std::vector{moe_mlp(p.input("x", tokens), gates, plan(), p.weight(0), p.weight(1),
                                    Activation::swiglu)};
       }},
      {"ParallelLinear",
       {{{kNumExperts, kExpertWidth, kWidth}, 0.125}},
       [&](Pass& p) {
         return std::vector{activation(parallel_linear(p.input("x", tokens), p.weight(0), plan()),
                                       Activation::gelu)};
       }},
      {"cross-entropy", {{{kVocab, kWidth}, 0.125}}, [&](Pass& p) {
         return std::vector{
             lm_head_loss(p.input("x", tokens), p.weight(0), ids_below(kVocab, {kTokens}), 1.0)};
       }}};
  const bool is_gpu = current_stream().device().type == DeviceType::cuda;
  Findings findings;
  for (const DType dtype : {DType::f32, DType::bf16}) {
    for (const Family& family : families) findings.push_back(check_family(family, dtype));
    if (!is_gpu) break;
  }
  return findings;
}

}  // namespace smoe
