// Benchmark of the expert kernels on this CPU: GFLOP/s of each GEMM, relative to the single-thread
// throughput of OpenBLAS at the same shapes in the same run times the number of threads. The ratio
// on one thread, by CPU time, shows the overhead over BLAS even on a busy machine. usage:
// smoe_bench_cpu [repetitions]
#include <cblas.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <functional>
#include <string>
#include <vector>

#include "core/device.h"
#include "kernels/cpu/threads.h"
#include "kernels/moe_mlp.h"
#include "tests/support/routing_plans.h"
#include "tests/support/tensors.h"

using namespace smoe;
using namespace smoe::test;
using kernels::RowLayout;

namespace {

struct Sizes {
  std::int64_t num_tokens, d, f, num_experts, top_k;
  std::int64_t num_rows() const { return num_tokens * top_k; }
};

double median(std::vector<double> values) {
  std::nth_element(values.begin(), values.begin() + values.size() / 2, values.end());
  return values[values.size() / 2];
}

template <class Args>
std::function<void()> call(void (*kernel)(const Launch&, const Args&),
                           std::int64_t (*workspace_bytes)(const Launch&, const Args&),
                           std::type_identity_t<Args> args) {
  const Tensor workspace = Tensor::empty({workspace_bytes(launch(), args)}, DType::u8);
  args.workspace = workspace.data();
  return [=, keep = workspace] { kernel(launch(), args); };
}

// One GEMM of the layer: ours, and single-thread BLAS calls [m, n, k] per expert that do the same
// work on rows that are already grouped.
struct ExpertGemm {
  const char* name;
  std::function<void()> ours;
  std::function<void()> blas;
  std::function<void()> prepare = [] {};  // not timed
};

class Layer {
 public:
  explicit Layer(const Sizes& sizes)
      : sizes_(sizes),
        plan_(plan_of(
            expert_ids_of(sizes.num_tokens, sizes.top_k, sizes.num_experts, Spread::uniform),
            sizes.top_k, sizes.num_experts)) {
    const std::int64_t e = sizes.num_experts, d = sizes.d, f = sizes.f, n = sizes.num_rows();
    x_ = random("x", {sizes.num_tokens, d});
    dout_ = random("dout", {sizes.num_tokens, d});
    gates_ = random("gates", {sizes.num_tokens, sizes.top_k});
    w1_ = random("w1", {e, 2 * f, d});
    w2_ = random("w2", {e, d, f});
    h_ = random("h", {n, 2 * f});
    a_ = random("a", {n, f});
    y_ = random("y", {n, d});
    dw1_ = random("dw1", {e, 2 * f, d});
    dw2_ = random("dw2", {e, d, f});
  }

  std::vector<ExpertGemm> gemms() const {
    const std::int64_t rows = sizes_.num_rows() / sizes_.num_experts, d = sizes_.d, f = sizes_.f;
    const auto scattered = [](const Tensor& t) {
      return kernels::RoutedRows{matrix_of(t), RowLayout::scattered};
    };
    const auto grouped = [](const Tensor& t) {
      return kernels::RoutedRows{matrix_of(t), RowLayout::grouped};
    };
    return {
        {"h = x W1^T, scattered to grouped", multiply(scattered(x_), w1_, false, h_),
         blas(x_, false, w1_, true, h_, rows, 2 * f, d)},
        {"y = a W2^T, grouped to grouped", multiply(grouped(a_), w2_, false, y_),
         blas(a_, false, w2_, true, y_, rows, d, f)},
        {"y = a W2^T, grouped to scattered",
         multiply(grouped(a_), w2_, false, y_, RowLayout::scattered),
         blas(a_, false, w2_, true, y_, rows, d, f)},
        {"dx = dh W1, grouped to grouped", multiply(grouped(h_), w1_, true, y_),
         blas(h_, false, w1_, false, y_, rows, d, 2 * f)},
        {"dW1 = dh^T x, x scattered", gradient(grouped(h_), scattered(x_), dw1_),
         blas(h_, true, x_, false, dw1_, 2 * f, d, rows)},
        {"dW2 = dout^T a, dout scattered", gradient(scattered(dout_), grouped(a_), dw2_),
         blas(dout_, true, a_, false, dw2_, d, f, rows)},
        {"expert_up: h = x W1^T, a = swiglu(h)", expert_up(),
         blas(x_, false, w1_, true, h_, rows, 2 * f, d)},
        {"expert_down_backward: da = dout W2, dh", expert_down_backward(),
         blas(dout_, false, w2_, false, a_, rows, f, d),
         [this, h = h_.clone(Category::activations)] {
           std::memcpy(h_.data(), h.data(), h.bytes());  // dh overwrote it
         }},
    };
  }

  double flops(const ExpertGemm& gemm) const {
    const double one = 2.0 * sizes_.num_rows() * sizes_.d * sizes_.f;
    const std::string name = gemm.name;
    return name.find("W1") == std::string::npos ? one : 2 * one;
  }

 private:
  static Tensor random(const char* name, const Shape& shape) {
    return random_normal(name, shape, DType::f32);
  }

  static kernels::ExpertMatrices experts(const Tensor& w) {
    return {w.data(), w.dtype(), w.dim(1), w.dim(2)};
  }

  std::function<void()> multiply(const kernels::RoutedRows& x, const Tensor& w, bool transpose,
                                 const Tensor& y, RowLayout layout = RowLayout::grouped) const {
    return call(kernels::grouped_gemm, kernels::grouped_gemm_workspace_bytes,
                {.routing = view_of(plan_),
                 .x = x,
                 .weight = experts(w),
                 .transpose_weight = transpose,
                 .y = matrix_of(y),
                 .y_layout = layout});
  }

  std::function<void()> gradient(const kernels::RoutedRows& dy, const kernels::RoutedRows& x,
                                 const Tensor& dw) const {
    return call(
        kernels::expert_gradient, kernels::expert_gradient_workspace_bytes,
        {.routing = view_of(plan_), .dy = dy, .x = x, .dtype = dw.dtype(), .dweight = dw.data()});
  }

  std::function<void()> expert_up() const {
    return call(kernels::expert_up, kernels::expert_up_workspace_bytes,
                {view_of(plan_), matrix_of(x_), experts(w1_), kernels::Activation::swiglu,
                 gates_.data(), matrix_of(h_), matrix_of(a_)});
  }

  std::function<void()> expert_down_backward() const {
    return call(kernels::expert_down_backward, kernels::expert_down_backward_workspace_bytes,
                {view_of(plan_), matrix_of(dout_), experts(w2_), kernels::Activation::swiglu,
                 gates_.data(), matrix_of(h_), matrix_of(a_), dgates_.data()});
  }

  std::function<void()> blas(const Tensor& a, bool transpose_a, const Tensor& b, bool transpose_b,
                             const Tensor& c, std::int64_t m, std::int64_t n,
                             std::int64_t k) const {
    return [=, experts = sizes_.num_experts] {
      // Arrays of T rows are shorter than the rows of E experts: wrap around.
      const auto part = [](const Tensor& t, std::int64_t expert, std::int64_t size) {
        return t.data_as<float>() + expert * size % std::max<std::int64_t>(t.numel() - size + 1, 1);
      };
      for (std::int64_t e = 0; e < experts; ++e)
        cblas_sgemm(CblasRowMajor, transpose_a ? CblasTrans : CblasNoTrans,
                    transpose_b ? CblasTrans : CblasNoTrans, m, n, k, 1, part(a, e, m * k),
                    transpose_a ? m : k, part(b, e, n * k), transpose_b ? k : n, 0,
                    part(c, e, m * n), n);
    };
  }

  Sizes sizes_;
  RoutingPlan plan_;
  Tensor x_, dout_, gates_, w1_, w2_, h_, a_, y_, dw1_, dw2_;
  Tensor dgates_ = Tensor::empty({sizes_.num_rows()}, DType::f32);
};

double cpu_seconds() {
  return static_cast<double>(std::clock()) / CLOCKS_PER_SEC;
}

double wall_seconds() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

struct Seconds {
  double ours, blas;
};

// Medians. Ours and BLAS alternate, so that load on the machine affects both.
Seconds measure(const ExpertGemm& gemm, int repetitions, double (*clock)()) {
  std::vector<double> ours, blas;
  gemm.ours();
  for (int i = 0; i < repetitions; ++i) {
    const double start = clock();
    gemm.blas();
    blas.push_back(clock() - start);
    gemm.prepare();
    const double again = clock();
    gemm.ours();
    ours.push_back(clock() - again);
  }
  return {median(ours), median(blas)};
}

void report(const Layer& layer, const ExpertGemm& gemm, int repetitions) {
  const int threads = kernels::cpu::num_threads();
  const Seconds wall = measure(gemm, repetitions, wall_seconds);
  kernels::cpu::set_num_threads(1);
  const Seconds cpu = measure(gemm, repetitions, cpu_seconds);
  kernels::cpu::set_num_threads(threads);
  const double flops = layer.flops(gemm);
  std::printf(
      "  %-40s %8.2f ms %7.1f GFLOP/s, BLAS on one thread %6.1f: %5.1f %%, on one thread %5.1f "
      "%%\n",
      gemm.name, 1e3 * wall.ours, flops / wall.ours / 1e9, flops / wall.blas / 1e9,
      100 * wall.blas / wall.ours / threads, 100 * cpu.blas / cpu.ours);
}

}  // namespace

int main(int argc, char** argv) {
  const int repetitions = argc > 1 ? std::max(1, std::atoi(argv[1])) : 31;
  openblas_set_num_threads(1);
  for (const Sizes& sizes :
       {Sizes{2048, 128, 256, 8, 2}, {2048, 256, 512, 16, 2}, {4096, 512, 1024, 8, 2}}) {
    std::printf("T %ld, D %ld, F %ld, E %ld, K %ld, f32, %d threads, median of %d\n",
                sizes.num_tokens, sizes.d, sizes.f, sizes.num_experts, sizes.top_k,
                kernels::cpu::num_threads(), repetitions);
    const Layer layer(sizes);
    for (const ExpertGemm& gemm : layer.gemms()) report(layer, gemm, repetitions);
  }
}
