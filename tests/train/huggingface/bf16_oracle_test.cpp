// Holds an imported model in bf16 to transformers' own run in bf16. The reference, made by
// tests/oracle/make_mixtral.py, has the same in f32: the same weights, with the tokens sent to the
// same experts, as ours are here. With e = x - exact and u = 2^-8:
//   "rms"     ours is as near to the exact one as theirs   rms(e_ours) <= 1.1 rms(e_theirs)
//   "max"     no element is far off                        max|e_ours| <= 2 max|e_theirs|
//   "apart"   ours is theirs but for rounding              |ours - theirs| <= 4 u sqrt(n) |exact|
// where n = 2 L + 1 roundings of the residual stream lie on the way through L layers, and as many
// on the way back. The last takes the largest elements of logits, and the rms of gradients.
#include "autograd/tape.h"
#include "tests/train/huggingface/oracle.h"

using namespace smoe;
using namespace smoe::test;

namespace {

constexpr double kRmsBound = 1.1, kLargestBound = 2;  // of our error over theirs
constexpr double kOneTensorBound = 2;                 // of one alone, which may have few numbers
constexpr double kApartBound = 4;                     // u sqrt(n)
constexpr double kRerouted = 0.02;                    // of all pairs, in one small reference

/// In units of u sqrt(n).
double in_roundings(double difference, std::int64_t num_roundings) {
  return difference / unit_roundoff(DType::bf16) / std::sqrt(static_cast<double>(num_roundings));
}

/// Differences relative to the exact numbers' largest, or summed up squared to their rms.
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
  Error ours, theirs, apart;

  Errors(const std::vector<double>& x, const std::vector<double>& theirs_x,
         const std::vector<double>& exact)
      : ours(x, exact, exact), theirs(theirs_x, exact, exact), apart(x, theirs_x, exact) {}

  void add(const Errors& other) {
    ours.add(other.ours);
    theirs.add(other.theirs);
    apart.add(other.apart);
  }
  double rms_ratio() const { return std::sqrt(ours.mean_square / theirs.mean_square); }
  void check(const std::string& name) const {
    check_figure(name + " rms", rms_ratio(), kRmsBound);
    check_figure(name + " max", ours.largest / theirs.largest, kLargestBound);
  }
};

/// Errors of what the reference has as `name` and "exact." + name.
Errors errors_of(const std::vector<double>& x, const Oracle& oracle, const std::string& name) {
  return {x, oracle.values(name), oracle.values("exact." + name)};
}

/// The share of pairs (token, expert) of `chosen` that are not in `wanted`; both [T, K], by layer.
double rerouted(const std::vector<Tensor>& chosen, const std::vector<Tensor>& wanted) {
  REQUIRE(chosen.size() == wanted.size());
  std::int64_t num_pairs = 0, num_shared = 0;
  for (std::size_t layer = 0; layer < chosen.size(); ++layer) {
    const auto a = chosen[layer].to_vector<std::int32_t>();
    const auto b = wanted[layer].to_vector<std::int32_t>();
    REQUIRE(a.size() == b.size());
    const auto k = static_cast<std::size_t>(wanted[layer].dim(1));
    for (std::size_t i = 0; i < a.size(); ++i) {
      const auto token = b.begin() + static_cast<std::ptrdiff_t>(i / k * k);
      num_shared += std::count(token, token + static_cast<std::ptrdiff_t>(k), a[i]);
    }
    num_pairs += static_cast<std::int64_t>(a.size());
  }
  return static_cast<double>(num_pairs - num_shared) / static_cast<double>(num_pairs);
}

void check_gradients(const ParameterStore& store, const Oracle& oracle,
                     std::int64_t num_roundings) {
  const auto gradients = gradients_of(store);
  std::optional<Errors> all;
  double worst = 0;
  for (const auto& [name, values] : gradients) {
    const Errors errors = errors_of(values, oracle, "gradient." + name);
    CHECK_MESSAGE(errors.rms_ratio() <= kOneTensorBound, name, ": rms error over theirs is ",
                  errors.rms_ratio());
    worst = std::max(worst, errors.rms_ratio());
    all ? all->add(errors) : void(all = errors);
  }
  REQUIRE(all);
  all->check("grads");
  check_figure("one's rms", worst, kOneTensorBound);
  const double apart = std::sqrt(all->apart.mean_square / static_cast<double>(gradients.size()));
  check_figure("grads apart", in_roundings(apart, num_roundings), kApartBound);
}

void compare(const std::string& folder) {
  CAPTURE(folder);
  const Oracle oracle{folder};
  const LoadedModel loaded = imported(folder, DType::bf16);
  Transformer& model = *loaded.model;
  const OracleBatch batch(oracle.tensor("token_ids", DType::i32));
  const std::int64_t num_roundings = 2 * loaded.config.model.num_layers + 1;

  std::vector<Tensor> expert_ids;  // [T, K] of each layer
  const Tensor all = oracle.tensor("expert_ids", DType::i32);
  for (std::int64_t layer = 0; layer < all.dim(0); ++layer)
    expert_ids.push_back(all.view(layer * all.dim(1) * all.dim(2), {all.dim(1), all.dim(2)}));
  check_figure("rerouted", rerouted(model.expert_ids(batch.token_ids, batch.context), expert_ids),
               kRerouted);

  model.follow(expert_ids);
  {
    const NoGradScope no_grad;
    const Tensor logits = model.logits(batch.token_ids, batch.context).data();
    const Errors errors = errors_of(values_of(logits), oracle, "logits");
    errors.check("logits");
    check_figure("logits apart", in_roundings(errors.apart.largest, num_roundings), kApartBound);
  }
  Tape tape;
  const TapeScope scope(tape);
  const double aux_scale =
      oracle.values("balance_scale")[0] / loaded.config.model.router.balance_loss;
  loaded.store->begin_step();
  const ModelLosses losses =
      model.losses(batch.token_ids, batch.targets, batch.loss_scale, aux_scale, batch.context);
  tape.backward(losses.total);
  loaded.store->finish_gradients();
  check_figure("loss", std::abs(losses.cross_entropy.data().item() / oracle.values("loss")[0] - 1),
               unit_roundoff(DType::bf16));
  check_gradients(*loaded.store, oracle, 2 * num_roundings);
}

}  // namespace

TEST_CASE("a model in bf16 is as near to the exact one as transformers' own, and near to that") {
  const Stream stream(oracle_device());
  const StreamGuard guard(stream);
  for (const std::string& folder : oracle_folders(OracleKind::bf16, {"tests/oracle/mixtral-bf16"}))
    compare(folder);
}
