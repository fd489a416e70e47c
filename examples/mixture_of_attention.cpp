// Mixture of attention (arXiv:2403.08245, section 3.3): each token chooses K of E experts, which
// own query and output projections; keys and values are shared. ParallelLinear keeps the scattered
// (token, slot) order through both projections, so attention sees the tokens in their sequence and
// no copy of rows in grouped order is kept for backward.
//
// The task is to recall the input of two tokens ago, which no token can do without attention.
#include <cmath>
#include <cstdio>
#include <vector>

#include "autograd/gradient_step.h"
#include "core/device.h"
#include "core/random.h"
#include "layers/linear.h"
#include "layers/parallel_linear.h"
#include "optim/adamw.h"
#include "optim/clip.h"

namespace {

using namespace smoe;

struct Sizes {
  std::int64_t d_model, num_experts, top_k, heads_per_expert, head_dim;
};

class MixtureOfAttention : public Module {
 public:
  MixtureOfAttention(const std::string& name, const Sizes& s)
      : sizes_(s),
        router_(name + ".router.weight", s.d_model, s.num_experts, std_of(s.d_model),
                {.full_precision = true}),
        query_(name + ".query", s.num_experts, s.d_model, width(), std_of(s.d_model),
               {.input = RowLayout::scattered, .output = RowLayout::scattered}),
        key_value_(name + ".kv.weight", s.d_model, 2 * s.head_dim, std_of(s.d_model)),
        output_(name + ".output", s.num_experts, width(), s.d_model, std_of(width()),
                {.input = RowLayout::scattered}) {
    own(router_);
    own(query_);
    own(key_value_);
    own(output_);
  }

  // x [T, D] -> y [T, D] and the router's losses.
  std::pair<Variable, Routing> forward(const Variable& x, std::int64_t batch,
                                       std::int64_t seq_len) {
    const std::int64_t num_tokens = batch * seq_len, heads = sizes_.top_k * sizes_.heads_per_expert;
    const Routing routing =
        route(router_.forward(x), RouterScore::softmax_topk_renorm, TopK{.top_k = sizes_.top_k});
    Variable q = query_.forward(x, routing.plan);           // [N, h C], (token, slot) order
    q = reshape(q, {num_tokens, heads * sizes_.head_dim});  // [T, K h C]: no copy
    q = rotary(std::move(q), {batch, seq_len, heads, 0, sizes_.head_dim}, 1e4);
    const Variable kv = rotary(key_value_.forward(x),  // [T, 2 C]
                               {batch, seq_len, 0, 1, sizes_.head_dim}, 1e4);
    Variable y = causal_attention(q, kv, {batch, seq_len, heads, 1, sizes_.head_dim});
    y = reshape(y, {num_tokens * sizes_.top_k, width()});  // [N, h C]
    return {output_.forward(y, routing.plan, routing.gates), routing};
  }

 private:
  static double std_of(std::int64_t num_inputs) { return 1 / std::sqrt(double(num_inputs)); }
  std::int64_t width() const { return sizes_.heads_per_expert * sizes_.head_dim; }

  Sizes sizes_;
  Linear router_;
  ParallelLinear query_;
  Linear key_value_;
  ParallelLinear output_;
};

}  // namespace

int main() {
  const Stream stream(select_device("auto"));
  const StreamGuard guard(stream);
  constexpr std::int64_t kBatch = 4, kSeqLen = 32, kWidth = 32, kSteps = 200;
  MixtureOfAttention layer(
      "moa",
      {.d_model = kWidth, .num_experts = 6, .top_k = 2, .heads_per_expert = 2, .head_dim = kWidth});
  ParameterStore store(layer.parameters(), {.seed = 3});
  AdamW optimizer(store, {.weight_decay = 0});

  RandomStream random(1, 2);
  Tape tape;
  double first = 0, last = 0;
  for (std::int64_t step = 1; step <= kSteps; ++step) {
    std::vector<float> input(kBatch * kSeqLen * kWidth), wanted(input.size(), 0.0f);
    for (float& value : input) value = static_cast<float>(random.normal());
    // Queries and keys need something that all tokens share to be rotated by their positions.
    for (std::size_t i = 0; i < input.size(); i += kWidth) input[i] = 4;
    for (std::int64_t i = 0; i < kBatch * kSeqLen; ++i)
      for (std::int64_t c = 1; c < kWidth && i % kSeqLen >= 2; ++c)
        wanted[i * kWidth + c] = input[(i - 2) * kWidth + c];
    const Shape shape{kBatch * kSeqLen, kWidth};

    GradientStep gradients(store);
    const TapeScope recording(tape);
    const auto [y, routing] = layer.forward(Tensor::from(input, shape), kBatch, kSeqLen);
    const Variable terms[] = {mean_squared_error(y, Tensor::from(wanted, shape)),
                              routing.balance_loss};
    const double weights[] = {1, 0.01};
    gradients.backward(tape, weighted_sum(terms, weights));
    gradients.finish();
    optimizer.step(1e-2, step, clip_to(sum_of_squares(store.gradient()), 1.0).coefficient);

    last = terms[0].data().item();
    if (step == 1) first = last;
    if (step == 1 || step % 50 == 0)
      std::printf("step %3d  squared error %.3f\n", static_cast<int>(step), last);
  }
  return last < 0.7 * first ? 0 : 1;
}
