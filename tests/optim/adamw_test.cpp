#include "optim/adamw.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <map>
#include <span>

#include "core/base/split_weight.h"
#include "optim/clip.h"
#include "tests/reference/adamw.h"
#include "tests/support/compare.h"

using namespace smoe;
using namespace smoe::test;

namespace {

const OptimConfig kConfig{.lr = 0.02, .beta1 = 0.9, .beta2 = 0.95, .weight_decay = 0.1};

/// Two matrices with weight decay and a norm weight without, with padding in between.
struct Model {
  Parameter first{"first", {13, 7}, Init::normal(1)};
  Parameter norm{"norm", {7}, Init::constant(1), {.decays = false, .full_precision = true}};
  Parameter last{"last", {3, 5, 11}, Init::normal(1)};
  ParameterStore store;

  /// `own`: the elements that are updated; empty: all.
  explicit Model(DType master, DType compute, const std::vector<Range>& own = {},
                 DType gradients = DType::f32)
      : store({&first, &norm, &last}, {.master = master,
                                       .compute = compute,
                                       .seed = 1,
                                       .trains = true,
                                       .gradients = gradients,
                                       .own = own.empty() ? nullptr : own_function(own)}) {}

  static std::function<std::vector<Range>(std::int64_t)> own_function(std::vector<Range> own) {
    return [own = std::move(own)](std::int64_t) { return own; };
  }

  /// Sets a gradient of norm `size` that depends on the step.
  void set_gradients(int step, double size = 3) {
    double squares = 0;
    std::vector<std::pair<Parameter*, std::vector<double>>> values;
    for (Parameter* p : store.parameters()) {
      values.emplace_back(
          p, values_of(random_normal(p->name() + std::to_string(step), p->shape(), DType::f64)));
      for (const double value : values.back().second) squares += value * value;
    }
    for (auto& [p, gradient] : values)
      for (std::int64_t i = 0; i < p->numel(); ++i)
        dispatch_floating(p->gradient().dtype(), [&, p = p, &gradient = gradient](auto type) {
          using T = decltype(type);
          static_cast<T*>(p->gradient().data())[i] = T(gradient[i] * size / std::sqrt(squares));
        });
  }
};

GradientClip clip(const ParameterStore& store, double max_norm) {
  return clip_to(sum_of_squares(store.gradient()), max_norm);
}

struct CollectTensors : StateVisitor {
  std::map<std::string, Tensor> tensors;
  void tensor(std::string_view name, Tensor& value) override { tensors.emplace(name, value); }
  void integer(std::string_view, std::int64_t&) override {}
  void real(std::string_view, double&) override {}
};

}  // namespace

TEST_CASE("AdamW with clipping follows the double reference over 50 steps, decay by parameter") {
  for (const DType dtype : {DType::f32, DType::f64}) {
    Model model(dtype, dtype);
    AdamW optimizer(model.store, kConfig);
    std::map<std::string, reference::Adamw> wanted;
    for (Parameter* p : model.store.parameters())
      wanted.emplace(p->name(), reference::Adamw(0.9, 0.95, 1e-8, values_of(p->master())));
    const int steps = 50;
    for (int t = 1; t <= steps; ++t) {
      const double size = t % 2 ? 3 : 0.5, lr = 0.02 / t;
      model.set_gradients(t, size);
      const GradientClip clipped = clip(model.store, 1.0);
      CHECK(clipped.norm.item() == doctest::Approx(size).epsilon(1e-6));
      optimizer.step(lr, t, clipped.coefficient);
      for (Parameter* p : model.store.parameters()) {
        std::vector<double> gradient = values_of(p->gradient());
        for (double& value : gradient) value *= std::min(1.0, 1 / size);
        const std::vector<double> decay(gradient.size(), p->decays() ? 0.1 : 0.0);
        wanted.at(p->name()).step(t, lr, gradient, decay);
      }
    }
    for (Parameter* p : model.store.parameters())
      check_close(p->name(), p->master(), wanted.at(p->name()).weights, {.sum_length = steps});
  }
}

TEST_CASE("what is not trained has no moments, no weight decay and no part in the norm") {
  for (const DType compute : {DType::f32, DType::bf16}) {
    Parameter weight("weight", {13, 7}, Init::normal(1)),
        base("base", {40, 9}, Init::normal(1), {.trains = false}),
        norm("norm", {7}, Init::constant(1), {.full_precision = true, .trains = false});
    ParameterStore store({&base, &weight, &norm}, {.compute = compute, .seed = 1});
    const std::vector<double> before = values_of(base.value());
    const std::int64_t moments_before = memory_use(Category::optimizer).now_bytes;
    AdamW optimizer(store, kConfig);
    CHECK(memory_use(Category::optimizer).now_bytes - moments_before == 2 * 4 * 128);
    for (float& g : std::span(store.gradient().data_as<float>(), 91)) g = 2;
    const GradientClip clipped = clip(store, 1.0);
    CHECK(clipped.norm.item() == doctest::Approx(2 * std::sqrt(91.0)));
    optimizer.step(0.02, 1, clipped.coefficient);
    CHECK(values_of(base.value()) == before);
    CHECK(values_of(norm.value()) == std::vector<double>(7, 1));
    CollectTensors state;
    optimizer.visit_state(state);
    CHECK(state.tensors.size() == 2);
    CHECK(state.tensors.count("optimizer.m/weight") == 1);
  }
}

TEST_CASE("with bf16 weights the masters are those of f32 training, and padding stays zero") {
  Model split(DType::f32, DType::bf16), whole(DType::f32, DType::f32);
  AdamW optimizer(split.store, kConfig), same(whole.store, kConfig);
  for (int t = 1; t <= 3; ++t) {
    for (auto* m : {&split, &whole}) m->set_gradients(t);
    optimizer.step(0.02, t, {});
    same.step(0.02, t, {});
  }
  std::vector<bool> is_padding(split.store.compute().numel(), true);
  for (std::size_t i = 0; i < split.store.parameters().size(); ++i) {
    const Parameter& p = *split.store.parameters()[i];
    check_same_bits(p.name(), p.master(), whole.store.parameters()[i]->master());
    const std::int64_t offset = split.store.offset_of(p);
    std::fill_n(is_padding.begin() + offset, p.numel(), false);
    if (p.full_precision()) continue;
    const auto masters = p.master().to_vector<float>();
    const auto weights = p.value().to_vector<bf16>();
    for (std::size_t j = 0; j < masters.size(); ++j)
      CHECK(weights[j].bits == split_weight(std::bit_cast<std::uint32_t>(masters[j])).weight);
  }
  const std::vector<double> compute = values_of(split.store.compute());
  const auto remainders = split.store.remainders().to_vector<std::uint16_t>();
  for (std::size_t i = 0; i < compute.size(); ++i)
    CHECK((!is_padding[i] || (compute[i] == 0 && remainders[i] == 0)));
}

TEST_CASE("two optimizers that each own a part of the elements train the bits of one") {
  const std::int64_t cut = 100;  // inside of a parameter
  for (const DType moments : {DType::f32, DType::bf16}) {
    OptimConfig config = kConfig;
    config.moments = moments;
    // Gradients are bf16 with bf16 moments.
    Model whole(DType::f32, DType::bf16, {}, moments),
        first(DType::f32, DType::bf16, {{0, cut}}, moments),
        second(DType::f32, DType::bf16, {{cut, 384}}, moments);
    REQUIRE(whole.store.compute().numel() == 384);
    for (auto* model : {&whole, &first, &second}) {
      AdamW optimizer(model->store, config);
      for (int t = 1; t <= 3; ++t) {
        model->set_gradients(t);
        optimizer.step(0.02, t, {});
      }
    }
    CHECK(first.store.remainders().numel() == cut);
    for (std::size_t i = 0; i < whole.store.parameters().size(); ++i) {
      const std::int64_t offset = whole.store.offset_of(*whole.store.parameters()[i]);
      const auto of = [&](Model& model) {
        return values_of(model.store.parameters()[i]->master());
      };
      const std::vector<double> wanted = of(whole), a = of(first), b = of(second);
      for (std::size_t j = 0; j < wanted.size(); ++j)
        CHECK(wanted[j] == (offset + static_cast<std::int64_t>(j) < cut ? a : b)[j]);
    }
  }
}

TEST_CASE("a gradient that is not finite leaves weights and moments unchanged") {
  for (const float bad : {NAN, INFINITY}) {
    Model model(DType::f32, DType::bf16), untouched(DType::f32, DType::bf16);
    AdamW optimizer(model.store, kConfig), same(untouched.store, kConfig);
    for (auto* m : {&model, &untouched}) m->set_gradients(1);
    optimizer.step(0.02, 1, clip(model.store, 0).coefficient);
    same.step(0.02, 1, clip(untouched.store, 0).coefficient);

    model.set_gradients(2);
    model.norm.gradient().data_as<float>()[3] = bad;
    const GradientClip clipped = clip(model.store, 1);
    CHECK(!std::isfinite(clipped.norm.item()));
    optimizer.step(0.02, 2, clipped.coefficient);
    check_same_bits("compute", model.store.compute(), untouched.store.compute());
    check_same_bits("remainders", model.store.remainders(), untouched.store.remainders());
    check_same_bits("norm", model.norm.value(), untouched.norm.value());
    CollectTensors state, wanted;
    optimizer.visit_state(state);
    same.visit_state(wanted);
    for (const auto& [name, tensor] : state.tensors)
      check_same_bits(name, tensor, wanted.tensors.at(name));
  }
}

TEST_CASE("moments restored through visit_state continue the run bit-identically") {
  const auto train = [](Model& model, AdamW& optimizer, int first, int last) {
    for (int t = first; t <= last; ++t) {
      model.set_gradients(t);
      optimizer.step(0.02, t, {});
    }
  };
  Model whole(DType::f32, DType::f32), resumed(DType::f32, DType::f32);
  AdamW whole_optimizer(whole.store, kConfig), before(resumed.store, kConfig);
  train(whole, whole_optimizer, 1, 6);
  train(resumed, before, 1, 3);
  CollectTensors saved, target;
  before.visit_state(saved);
  AdamW after(resumed.store, kConfig);
  after.visit_state(target);
  REQUIRE(saved.tensors.size() == 2 * resumed.store.parameters().size());
  for (auto& [name, tensor] : target.tensors) {
    const auto values = saved.tensors.at(name).to_vector<float>();
    std::copy(values.begin(), values.end(), tensor.data_as<float>());
  }
  train(resumed, after, 4, 6);
  check_same_bits("resumed weights", resumed.store.compute(), whole.store.compute());
}

TEST_CASE("moments take 8 or 4 bytes per own element, in the optimizer category") {
  Model model(DType::f32, DType::bf16, {{64, 192}});
  for (const DType moments : {DType::f32, DType::bf16}) {
    OptimConfig config = kConfig;
    config.moments = moments;
    const std::int64_t before = memory_use(Category::optimizer).now_bytes;
    const AdamW optimizer(model.store, config);
    CHECK(memory_use(Category::optimizer).now_bytes - before == 128 * 2 * size_of(moments));
  }
}

TEST_CASE("errors of AdamW and clipping") {
  Model model(DType::f32, DType::f32);
  const auto message = [&](auto change) {
    OptimConfig config = kConfig;
    change(config);
    try {
      const AdamW optimizer(model.store, config);
    } catch (const UsageError& error) {
      return std::string(error.what());
    }
    return std::string();
  };
  CHECK(message([](auto& c) { c.beta1 = 1; }) == "adamw: beta1 must be in [0, 1); got 1");
  CHECK(message([](auto& c) { c.beta2 = -1; }) == "adamw: beta2 must be in [0, 1); got -1");
  CHECK(message([](auto& c) { c.epsilon = 0; }) == "adamw: epsilon must be positive; got 0");
  CHECK(message([](auto& c) { c.weight_decay = -1; }) ==
        "adamw: weight_decay must not be negative; got -1");
  const auto with_bf16_moments = [&](double beta2) {
    return message([&](auto& c) {
      c.moments = DType::bf16;
      c.beta2 = beta2;
    });
  };
  CHECK(with_bf16_moments(0.9921875).empty());
  CHECK(with_bf16_moments(0.993).starts_with("adamw: with bf16 moments 1 - beta2 must be"));
  AdamW optimizer(model.store, kConfig);
  CHECK_THROWS_WITH_AS(optimizer.step(0.1, 0, {}), "adamw: step_number counts from 1; got 0",
                       UsageError);
  CHECK_THROWS_WITH_AS(optimizer.step(0.1, 1, Tensor::zeros({2}, DType::f64)),
                       "adamw: gradient_scale must be f64 [1]; got f64 [2]", UsageError);
  CHECK_THROWS_WITH_AS(clip(model.store, -1),
                       "clip: max_norm must be finite and not negative; got -1", UsageError);
}
