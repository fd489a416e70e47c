// Compares an imported model with transformers on PyTorch: logits, loss and every gradient. The
// references are written by tests/oracle/make_model.py; small ones are in the tree.
#include "tests/train/huggingface/oracle.h"

#include "autograd/gradient_step.h"

using namespace smoe;
using namespace smoe::test;

namespace {

constexpr double kLogitsBound = 1e-5, kGradientBound = 1e-4;  // of max|a - b| / max|reference|
constexpr double kRounding = 1e-6;                            // of the largest gradient
constexpr double kLeastMargin = 1e-4;                         // of the router's probabilities

/// The largest error of all gradients relative to the reference's `prefix` + name. Gradients that
/// the reference omits must be zero, up to rounding relative to the largest gradient: those of a
/// router with one expert per token, whose gate is always 1.
double worst_gradient(const LoadedModel& loaded, const Oracle& oracle, const std::string& prefix) {
  const auto gradients = gradients_of(loaded);
  double most = 0;
  for (const auto& [name, values] : gradients) most = std::max(most, largest(values));
  double worst = 0;
  std::size_t num_compared = 0;
  for (const auto& [name, values] : gradients) {
    const bool is_given = oracle.file.find(prefix + name) != nullptr;
    num_compared += is_given;
    const std::vector<double> reference =
        is_given ? oracle.values(prefix + name) : std::vector<double>(values.size());
    if (largest(reference) <= kRounding * most) {
      CHECK_MESSAGE(largest(values) <= kRounding * most, prefix, name, " must be 0");
      continue;
    }
    const double d = difference(values, reference);
    CHECK_MESSAGE(d <= kGradientBound, prefix, name, " differs by ", d);
    worst = std::max(worst, d);
  }
  for (const SafetensorsEntry& entry : oracle.file.entries())
    num_compared -= entry.name.starts_with(prefix);
  CHECK_MESSAGE(num_compared == 0, "the reference has gradients of unknown parameters");
  return worst;
}

void compare(const std::string& folder) {
  CAPTURE(folder);
  const Oracle oracle{folder};
  for (const double margin : oracle.values("margins")) CHECK(margin >= kLeastMargin);
  const LoadedModel loaded = imported(folder, DType::f32);
  const OracleBatch batch(oracle.tensor("token_ids", DType::i32));
  {
    const NoGradScope no_grad;
    const Tensor logits = loaded.model().logits(batch.token_ids, batch.context).data();
    check_figure("logits", difference(values_of(logits), oracle.values("logits")), kLogitsBound);
  }

  Tape tape;
  const TapeScope scope(tape);
  const auto check_loss = [&](const std::string& name, double loss_scale, double balance_scale) {
    const double aux_scale = balance_scale / loaded.config.model.router.balance_loss;
    GradientStep step(loaded.store());
    const ModelLosses losses =
        loaded.model().losses(batch.token_ids, batch.targets, loss_scale, aux_scale, batch.context);
    step.backward(tape, losses.total);
    step.finish();
    const double wanted = oracle.values(name)[0];
    check_figure(name, std::abs(losses.total.data().item() / wanted - 1), kLogitsBound);
  };
  check_loss("loss", batch.loss_scale, 0);
  check_figure("gradients", worst_gradient(loaded, oracle, "gradient."), kGradientBound);
  if (!oracle.file.find("balance_loss")) return;
  check_loss("balance_loss", 0, 1);
  check_figure("its gradients", worst_gradient(loaded, oracle, "balance_gradient."),
               kGradientBound);
}

}  // namespace

TEST_CASE("an imported model has the logits, loss and gradients of transformers") {
  const Stream stream(oracle_device());
  const StreamGuard guard(stream);
  for (const std::string& folder :
       oracle_folders(OracleKind::f32,
                      {"tests/oracle/mixtral", "tests/oracle/mixtral-tied", "tests/oracle/jetmoe"}))
    compare(folder);
}
