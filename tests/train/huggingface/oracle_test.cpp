// Holds an imported model to what transformers and PyTorch computed with it: logits, loss and every
// gradient. The references are made by tests/oracle/make_mixtral.py; two small ones are in the
// tree. SMOE_ORACLE=FOLDER adds another, SMOE_ORACLE_DEVICE=cuda chooses where ours runs.
#include <doctest/doctest.h>

#include <cstdlib>
#include <map>

#include "autograd/tape.h"
#include "core/device.h"
#include "core/state.h"
#include "tests/support/compare.h"
#include "tests/support/temporary_folder.h"
#include "train/huggingface/import.h"
#include "train/huggingface/safetensors.h"
#include "train/load_model.h"

using namespace smoe;
using namespace smoe::test;

namespace {

constexpr double kLogitsBound = 1e-5, kGradientBound = 1e-4;  // of max|a - b| / max|reference|
constexpr double kRounding = 1e-6;                            // of the largest gradient
constexpr double kLeastMargin = 1e-3;                         // of the router's probabilities

/// max|a - b| / max|b|.
double difference(const std::vector<double>& a, const std::vector<double>& b) {
  REQUIRE(a.size() == b.size());
  double most = 0;
  for (std::size_t i = 0; i < a.size(); ++i) {
    if (std::isnan(a[i])) return INFINITY;
    most = std::max(most, std::abs(a[i] - b[i]));
  }
  return most == 0 ? 0 : most / largest(b);
}

struct Oracle {
  std::string folder;
  SafetensorsFile file{folder + "/reference.safetensors"};

  Tensor tensor(const std::string& name, DType dtype = DType::f32) const {
    const SafetensorsEntry* entry = file.find(name);
    REQUIRE_MESSAGE(entry, file.path(), " has no ", name);
    return file.read(*entry, dtype);
  }
  std::vector<double> values(const std::string& name) const { return values_of(tensor(name)); }
};

LoadedModel imported(const std::string& folder) {
  const TemporaryFolder runs;
  import_mixtral({folder, runs / "run"}, [](const char*, std::int64_t, std::int64_t) {});
  return load_model(runs / "run");
}

/// Each token's successor in its sequence; -1 behind the last.
Tensor targets_of(const std::vector<std::int32_t>& ids, std::int64_t length) {
  std::vector<std::int32_t> targets(ids.size(), -1);
  for (std::size_t i = 0; i + 1 < ids.size(); ++i)
    if ((static_cast<std::int64_t>(i) + 1) % length != 0) targets[i] = ids[i + 1];
  return Tensor::from(targets, {static_cast<std::int64_t>(ids.size())});
}

std::map<std::string, std::vector<double>> gradients_of(const ParameterStore& store) {
  struct Collect : StateVisitor {
    std::map<std::string, std::vector<double>> values;
    void tensor(std::string_view name, Tensor& value) override {
      values[std::string(name)] = values_of(value);
    }
    void integer(std::string_view, std::int64_t&) override {}
    void real(std::string_view, double&) override {}
  } collect;
  store.visit_arena(collect, "", store.gradient());
  return collect.values;
}

/// Holds every gradient to the reference's `prefix` + name. What the reference leaves out is zero,
/// and so is, but for rounding, what is very small beside the largest gradient: a router's where
/// each token visits one expert, whose gate is always 1.
double worst_gradient(const ParameterStore& store, const Oracle& oracle,
                      const std::string& prefix) {
  const auto gradients = gradients_of(store);
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
  CHECK_MESSAGE(num_compared == 0, "the reference has gradients of no parameter");
  return worst;
}

void compare(const std::string& folder) {
  CAPTURE(folder);
  const Oracle oracle{folder};
  for (const double margin : oracle.values("margins")) CHECK(margin >= kLeastMargin);
  const LoadedModel loaded = imported(folder);

  const Tensor ids = oracle.tensor("token_ids", DType::i32);
  const std::int64_t batch = ids.dim(0), length = ids.dim(1);
  const ForwardContext context{.batch = batch, .seq_len = length};
  const Tensor token_ids = ids.reshape({batch * length});
  const Tensor targets = targets_of(token_ids.to_vector<std::int32_t>(), length);

  double of_logits = 0;
  {
    const NoGradScope no_grad;
    of_logits = difference(values_of(loaded.model->logits(token_ids, context).data()),
                           oracle.values("logits"));
  }
  CHECK(of_logits <= kLogitsBound);

  Tape tape;
  const TapeScope scope(tape);
  const auto backward = [&](double loss_scale, double balance_scale) {
    const double aux_scale = balance_scale / loaded.config.model.router.balance_loss;
    loaded.store->begin_step();
    const ModelLosses losses =
        loaded.model->losses(token_ids, targets, loss_scale, aux_scale, context);
    tape.backward(losses.total);
    loaded.store->finish_gradients();
    return losses.total.data().item();
  };
  const double loss = backward(1.0 / static_cast<double>(batch * (length - 1)), 0);
  const double of_loss = std::abs(loss / oracle.values("loss")[0] - 1);
  CHECK(of_loss <= kLogitsBound);
  const double of_gradients = worst_gradient(*loaded.store, oracle, "gradient.");
  MESSAGE(folder, ": logits ", of_logits, ", loss ", of_loss, ", gradients ", of_gradients);

  if (!oracle.file.find("balance_loss")) return;
  const double balance = backward(0, 1);
  CHECK(balance == doctest::Approx(oracle.values("balance_loss")[0]).epsilon(kLogitsBound));
  worst_gradient(*loaded.store, oracle, "balance_gradient.");
}

}  // namespace

TEST_CASE("an imported model has the logits, loss and gradients it has in transformers") {
  const char* device = std::getenv("SMOE_ORACLE_DEVICE");
  const Stream stream(select_device(device ? device : "cpu"));
  const StreamGuard guard(stream);
  if (const char* folder = std::getenv("SMOE_ORACLE")) return compare(folder);
  compare("tests/oracle/mixtral");
  compare("tests/oracle/mixtral-tied");
}
