// Compares an imported model in bf16 with transformers in bf16. The reference, written by
// tests/oracle/make_model.py, also has the results in f32 ("exact") for the same weights and the
// same routing, which smoe uses here too. With e = x - exact and u = 2^-8:
//   "rms"        smoe is as accurate as transformers   rms(e_smoe) <= 1.1 rms(e_theirs)
//   "max"        no element has a large error          max|e_smoe| <= 2 max|e_theirs|
//   "distance"   equal up to rounding                  |smoe - theirs| <= 4 u sqrt(n) |exact|
// where n = 2 L + 1 is the number of roundings of the residual stream in the forward pass through L
// layers, and again in backward. The distance is that of the largest logits, and the RMS of
// gradients.
#include "autograd/gradient_step.h"
#include "tests/train/huggingface/oracle.h"

using namespace smoe;
using namespace smoe::test;

namespace {

constexpr double kRmsBound = 1.1, kLargestBound = 2;  // smoe's error / theirs
constexpr double kOneTensorBound = 2;                 // of one tensor, which may be small
constexpr double kDistanceBound = 4;                  // u sqrt(n)
constexpr double kRerouted = 0.02;                    // share of all pairs, in one small reference

/// In units of u sqrt(n).
double in_roundings(double difference, std::int64_t num_roundings) {
  return difference / unit_roundoff(DType::bf16) / std::sqrt(static_cast<double>(num_roundings));
}

/// Differences relative to the largest exact element, or the sum of their squares.
struct Error {
  double largest = 0, mean_square = 0;

  Error(const std::vector<double>& a, const std::vector<double>& b,
        const std::vector<double>& exact) {
    REQUIRE(a.size() == exact.size());
    REQUIRE(b.size() == exact.size());
    double squares = 0, exact_squares = 0;
    for (std::size_t i = 0; i < a.size(); ++i) {
      const double d = std::abs(a[i] - b[i]);
      largest = std::isnan(d) ? INFINITY : std::max(largest, d);
      squares += d * d;
      exact_squares += exact[i] * exact[i];
    }
    REQUIRE(exact_squares > 0);
    largest /= test::largest(exact);
    mean_square = squares / exact_squares;
  }
  void add(const Error& other) {
    largest = std::max(largest, other.largest);
    mean_square += other.mean_square;
  }
};

struct Errors {
  Error ours, theirs, distance;

  Errors(const std::vector<double>& x, const std::vector<double>& theirs_x,
         const std::vector<double>& exact)
      : ours(x, exact, exact), theirs(theirs_x, exact, exact), distance(x, theirs_x, exact) {}

  void add(const Errors& other) {
    ours.add(other.ours);
    theirs.add(other.theirs);
    distance.add(other.distance);
  }
  double rms_ratio() const { return std::sqrt(ours.mean_square / theirs.mean_square); }
  void check(const std::string& name) const {
    check_figure(name + " rms", rms_ratio(), kRmsBound);
    check_figure(name + " max", ours.largest / theirs.largest, kLargestBound);
  }
};

/// Errors relative to the reference's tensors `name` and "exact." + name.
Errors errors_of(const std::vector<double>& x, const Oracle& oracle, const std::string& name) {
  return {x, oracle.values(name), oracle.values("exact." + name)};
}

/// The model's own choice of experts, layer by layer.
std::vector<RoutingPlan> chosen_plans(Transformer& model, const OracleBatch& batch) {
  std::vector<RoutingPlan> plans;
  ForwardContext context = batch.context;
  context.on_routing = [&](std::span<const Routing> layers) {
    for (const Routing& routing : layers) plans.push_back(routing.plan);
  };
  const NoGradScope no_grad;
  model.logits(batch.token_ids, context);
  return plans;
}

/// The share of pairs (token, expert) of `chosen` that are not in `wanted`, over all layers.
double rerouted(const std::vector<RoutingPlan>& chosen, const std::vector<RoutingPlan>& wanted) {
  REQUIRE(chosen.size() == wanted.size());
  std::int64_t num_pairs = 0, num_shared = 0;
  for (std::size_t layer = 0; layer < chosen.size(); ++layer) {
    const auto a = chosen[layer].expert_ids.to_vector<std::int32_t>();
    const auto b = wanted[layer].expert_ids.to_vector<std::int32_t>();
    REQUIRE(a.size() == b.size());
    const auto k = static_cast<std::size_t>(wanted[layer].top_k);
    for (std::size_t i = 0; i < a.size(); ++i) {
      const auto token = b.begin() + static_cast<std::ptrdiff_t>(i / k * k);
      num_shared += std::count(token, token + static_cast<std::ptrdiff_t>(k), a[i]);
    }
    num_pairs += static_cast<std::int64_t>(a.size());
  }
  return static_cast<double>(num_pairs - num_shared) / static_cast<double>(num_pairs);
}

void check_gradients(const LoadedModel& loaded, const Oracle& oracle, std::int64_t num_roundings) {
  const auto gradients = gradients_of(loaded);
  std::optional<Errors> all;
  double worst = 0;
  for (const auto& [name, values] : gradients) {
    const Errors errors = errors_of(values, oracle, "gradient." + name);
    CHECK_MESSAGE(errors.rms_ratio() <= kOneTensorBound, name, ": RMS error / theirs is ",
                  errors.rms_ratio());
    worst = std::max(worst, errors.rms_ratio());
    all ? all->add(errors) : void(all = errors);
  }
  REQUIRE(all);
  all->check("grads");
  check_figure("tensor rms", worst, kOneTensorBound);
  const double distance =
      std::sqrt(all->distance.mean_square / static_cast<double>(gradients.size()));
  check_figure("grads dist", in_roundings(distance, num_roundings), kDistanceBound);
}

void compare_bf16(const std::string& folder) {
  CAPTURE(folder);
  const Oracle oracle{folder};
  const LoadedModel loaded = imported(folder, DType::bf16);
  Transformer& model = loaded.model();
  const OracleBatch batch(oracle.tensor("token_ids", DType::i32));
  const std::int64_t num_roundings = 2 * loaded.config.model.num_layers + 1;

  std::vector<RoutingPlan> plans;  // of each router
  const Tensor all = oracle.tensor("expert_ids", DType::i32);
  for (std::int64_t layer = 0; layer < all.dim(0); ++layer)
    plans.push_back(
        plan_routing(all.view(layer * all.dim(1) * all.dim(2), {all.dim(1), all.dim(2)}),
                     loaded.config.model.num_experts));
  check_figure("rerouted", rerouted(chosen_plans(model, batch), plans), kRerouted);

  ForwardContext context = batch.context;
  context.forced_routing = &plans;
  {
    const NoGradScope no_grad;
    const Tensor logits = model.logits(batch.token_ids, context).data();
    const Errors errors = errors_of(values_of(logits), oracle, "logits");
    errors.check("logits");
    check_figure("logits dist", in_roundings(errors.distance.largest, num_roundings),
                 kDistanceBound);
  }
  Tape tape;
  const TapeScope scope(tape);
  const double aux_scale =
      oracle.values("balance_scale")[0] / loaded.config.model.router.balance_loss;
  GradientStep step(loaded.store());
  const ModelLosses losses =
      model.losses(batch.token_ids, batch.targets, batch.loss_scale, aux_scale, context);
  step.backward(tape, losses.total);
  step.finish();
  check_figure("loss", std::abs(losses.cross_entropy.data().item() / oracle.values("loss")[0] - 1),
               unit_roundoff(DType::bf16));
  check_gradients(loaded, oracle, 2 * num_roundings);
}

}  // namespace

TEST_CASE("a model in bf16 is as accurate as in transformers, and equal up to rounding") {
  const Stream stream(oracle_device());
  const StreamGuard guard(stream);
  for (const std::string& folder : oracle_folders(OracleKind::bf16, {"tests/oracle/mixtral-bf16"}))
    compare_bf16(folder);
}
