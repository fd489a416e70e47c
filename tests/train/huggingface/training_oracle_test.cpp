// Compares the losses of 50 training steps in bf16 with PyTorch's, for the same weights, batches
// and configuration. The references are written by tests/oracle/make_training.py; a small one is in
// the tree.
#include <sstream>

#include "core/system/folder.h"
#include "tests/train/huggingface/oracle.h"
#include "tests/train/small_run.h"
#include "train/trainer.h"

using namespace smoe;
using namespace smoe::test;

namespace {

constexpr double kStepBound = 2e-2, kMeanBound = 5e-3;  // of |loss - PyTorch's loss|

/// The run of `folder`, on generated words.
struct OracleRun {
  explicit OracleRun(const std::string& path) : folder(path) {}

  std::string folder;
  TemporaryFolder temporary;
  Config config = load_config(folder + "/train.yaml", {"data.path=" + (temporary / "words.h5")});
  TrainingData data = [this] {
    write_small_token_set(config.data.path);
    return TrainingData::open(config.data);
  }();

  /// The sequences of each step, [steps, global_batch, S + 1].
  std::vector<std::int32_t> token_ids() const {
    const TrainConfig& train = config.train;
    const BatchSampler sampler(data, config.run.seed, train.seq_len, train.global_batch);
    std::vector<std::int32_t> tokens(train.steps * train.global_batch * (train.seq_len + 1));
    std::int32_t* next = tokens.data();
    for (std::int64_t step = 0; step < train.steps; ++step)
      for (const auto& [set, position] : sampler.batch(step)) {
        set->read(Split::train, position, train.seq_len + 1, next);
        next += train.seq_len + 1;
      }
    return tokens;
  }

  std::vector<double> losses() const {
    Trainer trainer(config, data);
    import_model({folder, temporary / "run"}, [](const char*, std::int64_t, std::int64_t) {});
    open_model(temporary / "run").checkpoint.load_part([&](StateVisitor& visitor) {
      trainer.visit_model(visitor);
    });
    trainer.state_loaded();
    std::vector<double> losses;
    while (trainer.steps_done() < config.train.steps) losses.push_back(trainer.step().loss);
    return losses;
  }
};

/// For make_training.py: one sequence per line.
void write_batches(const OracleRun& run) {
  std::ostringstream text;
  std::int64_t count = 0;
  for (const std::int32_t token : run.token_ids())
    text << token << (++count % (run.config.train.seq_len + 1) == 0 ? '\n' : ' ');
  write_file_atomically(run.folder + "/batches.txt", text.str());
}

void compare_training(const OracleRun& run) {
  const Oracle oracle{run.folder};
  REQUIRE(oracle.tensor("token_ids", DType::i32).to_vector<std::int32_t>() == run.token_ids());
  const std::vector<double> wanted = oracle.values("losses"), losses = run.losses();
  REQUIRE(losses.size() == wanted.size());
  double worst = 0, sum = 0;
  for (std::size_t step = 0; step < losses.size(); ++step) {
    const double d = std::abs(losses[step] - wanted[step]);
    CHECK_MESSAGE(d <= kStepBound, "step ", step + 1, ": loss ", losses[step], ", PyTorch's ",
                  wanted[step]);
    worst = std::max(worst, d);
    sum += d;
  }
  CHECK(losses.back() < losses.front() - 2);
  check_figure("worst step", worst, kStepBound);
  check_figure("mean step", sum / static_cast<double>(losses.size()), kMeanBound);
}

}  // namespace

TEST_CASE("50 training steps in bf16 have the losses of PyTorch") {
  const Stream stream(oracle_device());
  const StreamGuard guard(stream);
  for (const std::string& folder :
       oracle_folders(OracleKind::training, {"tests/oracle/training"})) {
    const OracleRun run(folder);
    const bool has_reference = kind_of(folder + "/reference.safetensors") == PathKind::file;
    has_reference ? compare_training(run) : write_batches(run);
  }
}
