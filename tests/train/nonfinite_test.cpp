// A NaN in any value that a step computes, forward or backward, is detected in that step.
#include <doctest/doctest.h>

#include "core/system/fault.h"
#include "tests/support/counts.h"
#include "tests/train/small_run.h"
#include "train/checkpoint/state_copy.h"
#include "train/inject_faults.h"
#include "train/trainer.h"

using namespace smoe;
using namespace smoe::test;

namespace {

// The bytes of the state that a skipped step must not change: everything except its counters.
std::string weights_of(Trainer& trainer) {
  struct Collect : StateVisitor {
    std::string bytes;
    void tensor(std::string_view, Tensor& value) override {
      bytes.append(static_cast<const char*>(value.data()), value.bytes());
    }
    void integer(std::string_view, std::int64_t&) override {}
    void real(std::string_view, double&) override {}
  } collect;
  trainer.visit_state(collect);
  return collect.bytes;
}

// Restores the values of a copy.
void restore(Trainer& trainer, StateCopy& copy) {
  struct Names : StateVisitor {
    std::vector<Tensor> tensors;
    std::vector<std::int64_t> integers;
    void tensor(std::string_view, Tensor& value) override { tensors.push_back(value); }
    void integer(std::string_view, std::int64_t& value) override { integers.push_back(value); }
    void real(std::string_view, double&) override {}
  } kept;
  copy.visit(kept);
  struct PutBack : StateVisitor {
    explicit PutBack(const Names& kept) : kept(kept) {}
    const Names& kept;
    std::size_t num_tensors = 0, num_integers = 0;
    void tensor(std::string_view, Tensor& value) override {
      value.copy_from(kept.tensors[num_tensors++]);
    }
    void integer(std::string_view, std::int64_t& value) override {
      value = kept.integers[num_integers++];
    }
    void real(std::string_view, double&) override {}
  } put_back(kept);
  trainer.visit_state(put_back);
  trainer.state_loaded();
}

}  // namespace

TEST_CASE(
    "a NaN in any value or gradient of a step is detected in that step and changes no weight") {
  SmallRun small;
  Config& config = small.config;
  config.model.router.score = RouterScore::sigmoid;
  config.model.router.selection_bias_rate = 0.01;
  config.model.num_shared_experts = 1;
  const TrainingData data = TrainingData::open(config.data);
  for (const DType precision : {DType::f32, DType::bf16}) {
    config.train.precision = precision;
    Trainer trainer(config, data);
    // Weights are state, not a value that the step computes.
    trainer.set_observer([](const char* site, const Tensor& values) {
      if (std::string_view(site) != "weight") inject_faults(site, values);
    });
    trainer.step();
    StateCopy start;
    start.take([&](StateVisitor& v) { trainer.visit_state(v); });
    const std::string before = weights_of(trainer);
    std::int64_t num_calls = 0;
    {
      const FaultScope count;
      trainer.step();
      num_calls = count.calls("*");
    }
    const std::string undisturbed = weights_of(trainer);
    std::int64_t caught = 0;
    const std::int64_t stride = kIsSanitized ? 7 : 1;
    std::int64_t tried = 0;
    for (std::int64_t k = 1; k <= num_calls; k += stride) {
      restore(trainer, start);
      REQUIRE((weights_of(trainer) == before));
      const FaultScope scope(concat("*:", k, ":nan"));
      const bool is_skipped = trainer.step().is_skipped;
      CAPTURE(k);
      caught += is_skipped;
      ++tried;
      // A NaN that is not detected had no effect: it was in a value that is never read.
      CHECK((weights_of(trainer) == (is_skipped ? before : undisturbed)));
    }
    CHECK(caught > tried / 2);
    MESSAGE(std::string(name_of(precision)), ": ", caught, " of ", tried,
            " NaNs in the values of a step were detected; the others were never read");
  }
}
