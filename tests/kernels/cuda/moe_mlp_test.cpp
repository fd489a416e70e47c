#include "kernels/moe_mlp.h"

#include <doctest/doctest.h>

#include <algorithm>

#include "tests/kernels/moe_mlp_cases.h"
#include "tests/support/activations.h"
#include "tests/support/gpu_moe_cases.h"

using namespace smoe;
using namespace smoe::test;
using kernels::RowLayout;

namespace {

// Compares only h: if two h round to different neighbors, their activations differ by more than one
// rounding. run_backward compares activations of the same h.
std::vector<Result> run_up(const MoeMlpCase& s) {
  const Tensor h = s.empty(s.width), a = s.empty(s.test.f), a_without_h = s.empty(s.test.f);
  s.up(h, a);
  s.up(Tensor(), a_without_h);
  check_same_bits("a without a stored h", a_without_h, a);
  const Tensor dh = h.clone(Category::activations), a_recomputed = s.empty(s.test.f);
  s.down_backward(dh, a_recomputed, Tensor::empty_like(s.gates));
  check_same_bits("a recomputed from h", a_recomputed, a);
  return {{"h", h, {.sum_length = s.test.d}}};
}

std::vector<Result> run_backward(const MoeMlpCase& s) {
  const std::int64_t d = s.test.d, f = s.test.f;
  const Tensor h = random_normal("h", {s.plan.num_rows(), s.width}, s.x.dtype());
  const Tensor a = s.empty(f), dgates = Tensor::empty_like(s.gates);
  // The rounding error of a derivative or a gate's gradient is bounded by the largest product.
  const double u = unit_roundoff(DType::f32), largest_h = largest(values_of(h));
  const double da = largest(values_of(s.dout)) * largest(values_of(s.w2));
  const double dh = largest(values_of(s.gates)) * da * largest_h;
  s.down_backward(h, a, dgates);
  return {{"dh", h, {.sum_length = d, .slack = u * dh}},
          {"a", a},
          {"dgates", dgates, {.sum_length = d + f, .slack = u * largest_h * largest_h * da}}};
}

// The results of some steps on one stream. In each, dW1 and dx~ may start before the kernel before
// them is complete if `overlaps`. dx~ overwrites a, as in training.
std::vector<Tensor> run_steps(const MoeMlpCase& s, DType gradients, bool overlaps) {
  const std::int64_t d = s.test.d, f = s.test.f, rows = s.plan.num_rows();
  const Tensor h = s.empty(s.width), shared = Tensor::empty({rows * std::max(d, f)}, s.x.dtype());
  const Tensor a = shared.view(0, {rows, f}), routed_dx = shared.view(0, {rows, d});
  const Tensor dgates = Tensor::empty_like(s.gates);
  const Tensor dw1 = Tensor::empty(s.w1.shape(), gradients);
  const Tensor dw2 = Tensor::empty(s.w2.shape(), gradients);
  const auto add_gradient = [&](const Tensor& dw, const kernels::RoutedRows& dy,
                                const kernels::RoutedRows& x, double beta,
                                bool overlaps_preceding) {
    run_kernel(kernels::expert_gradient, kernels::expert_gradient_workspace_bytes,
               {.routing = view_of(s.plan),
                .dy = dy,
                .x = x,
                .dtype = dw.dtype(),
                .dweight = dw.data(),
                .beta = beta,
                .overlaps_preceding = overlaps_preceding});
  };
  for (const double beta : {0.0, 1.0, 1.0, 1.0}) {
    s.up(h, a);
    s.down_backward(h, a, dgates);
    add_gradient(dw2, {matrix_of(s.dout), RowLayout::scattered}, {matrix_of(a), RowLayout::grouped},
                 beta, false);
    add_gradient(dw1, {matrix_of(h), RowLayout::grouped}, {matrix_of(s.x), RowLayout::scattered},
                 beta, overlaps);
    run_kernel(kernels::grouped_gemm, kernels::grouped_gemm_workspace_bytes,
               {.routing = view_of(s.plan),
                .x = {matrix_of(h), RowLayout::grouped},
                .weight = experts_of(s.w1),
                .transpose_weight = true,
                .y = matrix_of(routed_dx),
                .overlaps_preceding = overlaps});
  }
  return {h, routed_dx, dgates, dw1, dw2};
}

}  // namespace

TEST_CASE("the fused expert GEMMs on the GPU agree with the CPU's") {
  for_gpu_moe_cases([](const MoeCase& test, DType dtype) {
    for (const auto& [kind, act] : activations()) {
      const std::string name =
          concat(test.name(), " ", name_of(dtype), " activation ", static_cast<int>(kind));
      check_on_gpu("up " + name, [&, kind = kind] { return run_up({test, kind, dtype}); });
      check_on_gpu("down backward " + name, [&, kind = kind] {
        return run_backward({test, kind, dtype});
      });
    }
  });
}

TEST_CASE("the fused expert GEMMs of random routings on the GPU agree with the CPU's") {
  for (std::int64_t i = 0; i < num_random_moe_cases(); ++i) {
    const MoeCase test = random_moe_case(i);
    const auto kind = activations()[i % activations().size()].first;
    const std::string name = concat(test.name(), " activation ", static_cast<int>(kind));
    check_on_gpu("up " + name, [&] { return run_up({test, kind, DType::bf16}); });
    check_on_gpu("down backward " + name, [&] { return run_backward({test, kind, DType::bf16}); });
  }
}

TEST_CASE("the fused expert GEMMs of many tiles on the GPU agree with the portable ones") {
  for (std::int64_t i = 0; i < num_many_tiles_moe_cases(); ++i) {
    const MoeCase test = many_tiles_moe_case(i);
    const auto kind = activations()[i % activations().size()].first;
    const std::string name = concat(test.name(), " activation ", static_cast<int>(kind));
    check_against_portable("up " + name, [&] { return run_up({test, kind, DType::bf16}); });
    check_against_portable("down backward " + name, [&] {
      return run_backward({test, kind, DType::bf16});
    });
  }
}

TEST_CASE("expert GEMMs that overlap the preceding kernel give the bits of those that wait") {
  const StreamGuard guard(gpu_stream());
  // Few tiles, so that most SMs are free at once, and several waves of them.
  for (const MoeCase& test : {MoeCase{300, 2, 4, 136, 264}, MoeCase{4500, 2, 8, 520, 1032}}) {
    const MoeMlpCase s(test, kernels::Activation::swiglu, DType::bf16);
    for (const DType gradients : {DType::f32, DType::bf16}) {
      const std::vector<Tensor> expected = run_steps(s, gradients, false);
      for (int i = 0; i < 5; ++i) {
        const std::vector<Tensor> results = run_steps(s, gradients, true);
        for (std::size_t j = 0; j < results.size(); ++j)
          check_same_bits(concat(test.name(), " result ", j), results[j], expected[j]);
      }
    }
  }
}
