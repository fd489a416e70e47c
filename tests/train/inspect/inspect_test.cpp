#include "train/inspect/inspect.h"

#include <doctest/doctest.h>

#include "tests/support/text.h"
#include "tests/train/small_run.h"
#include "train/huggingface/safetensors_writer.h"
#include "train/open_run.h"

using namespace smoe;
using namespace smoe::test;

namespace {

// A run of two steps, shared by the tests.
struct TrainedRun : SmallRun {
  TrainedRun() {
    config.train.steps = 2;
    config.schedule.warmup_steps = 1;
    REQUIRE(open_run(config)->train() == 0);
  }
  std::string run() const { return config.run.folder(); }
  std::string checkpoint() const { return run() + "/checkpoints/step-00000002"; }

  static const TrainedRun& get() {
    static const TrainedRun run;
    return run;
  }
};

// The file with one byte changed.
std::string damaged(const std::string& path, std::int64_t offset, const std::string& copy) {
  std::string bytes = read_file(path, std::int64_t{1} << 30);
  bytes[offset < 0 ? bytes.size() + offset : offset] ^= 1;
  overwrite(copy, bytes);
  return copy;
}

}  // namespace

TEST_CASE("a token set shows its splits, a sample of its text and its digest") {
  const TrainedRun& small = TrainedRun::get();
  const std::string text = inspect(small.config.data.path);
  CHECK(text.starts_with(small.config.data.path + ": token set, "));
  CHECK(contains(text, "  tokenizer       bytes, vocabulary 257\n"));
  CHECK(contains(text, " tokens in 3 documents, "));
  CHECK_MESSAGE(contains(text, "  validation      767 tokens in 1 document, "), text);
  CHECK(contains(text, "                  256 "));  // end of text begins the first document
  CHECK(contains(text, ".\\n"));
  const TokenSet set = TokenSet::open(small.config.data.path);
  CHECK(contains(text, set.digest().hex()));
  CHECK(contains(inspect(small.config.data.path, {.is_verified = true}),
                 "  verified        all digests match\n"));
  const std::string bad = damaged(small.config.data.path, 20'000, small.folder / "bad.h5");
  CHECK(contains(message_of([&] { inspect(bad, {.is_verified = true}); }), bad + ": damaged"));
}

TEST_CASE("a checkpoint shows its numbers and tensors, by folder and by manifest") {
  const TrainedRun& small = TrainedRun::get();
  const std::string text = inspect(small.checkpoint());
  CHECK(text.starts_with(small.checkpoint() + ": checkpoint after 2 steps, "));
  CHECK(contains(text, "step 2, updates 2\n"));
  CHECK(contains(text, "  model.layers.{0..1}.block_sparse_moe.experts.{0..3}.w1.weight "));
  CHECK(contains(text, "  optimizer.m/lm_head.weight "));
  CHECK(inspect(small.checkpoint() + "/manifest.json") == text);
  CHECK(contains(inspect(small.checkpoint(), {.is_each = true}),
                 "  model.layers.1.block_sparse_moe.experts.3.w1.weight "));
  CHECK(contains(inspect(small.checkpoint(), {.is_verified = true}), "all digests match"));
}

TEST_CASE("a configuration shows the sources of a blend") {
  const TrainedRun& small = TrainedRun::get();
  Config config = small.config;
  config.data = {
      .path = "", .sources = {{"web", "w.h5", 2}, {"code", "c.h5", 0.5}}, .validation = ""};
  const std::string path = small.folder / "blend.yaml";
  overwrite(path, to_yaml(config));
  CHECK(contains(inspect(path),
                 "  data            web: w.h5, weight 2\n"
                 "                  code: c.h5, weight 0.5\n"));
}

TEST_CASE("a run shows its configuration, its checkpoints and the end of its log") {
  const TrainedRun& small = TrainedRun::get();
  const std::string text = inspect(small.run());
  CHECK(text.starts_with(small.run() + ": the folder of run small\n"));
  CHECK(contains(text, "  experts         4 of width 20 in each layer, top 2\n"));
  CHECK(contains(text, "  checkpoints     step-00000002  step        2  "));
  CHECK(contains(text, "\nstep 2/2  validation loss"));
  CHECK(contains(inspect(small.run(), {.is_verified = true}), "  verified  "));
  const std::string config = inspect(small.run() + "/config.yaml");
  CHECK(contains(config, ": the configuration of run small\n"));
  CHECK(contains(config, config_digest(load_config(small.run() + "/config.yaml"))));
  CHECK(contains(inspect(small.run() + "/tokenizer.json"), "bytes, vocabulary 257"));
}

TEST_CASE("safetensors show their tensors and metadata, one file or a folder of them") {
  const TemporaryFolder folder;
  SafetensorsWriter writer(folder / "a.safetensors", {{"w.0", {2, 3}}, {"w.1", {2, 3}}},
                           DType::bf16, {{"format", "pt"}});
  for (const char* name : {"w.0", "w.1"}) writer.write(name, Tensor::zeros({2, 3}, DType::f32));
  writer.commit();
  const std::string text = inspect(folder / "a.safetensors");
  CHECK(contains(text, "  format          \"pt\"\n"));
  CHECK(contains(text, "  w.{0..1}  BF16   [2, 3]        2       24 B\n"));
  CHECK(inspect(folder.path()) == text);
  overwrite(folder / "b.safetensors", "no");
  CHECK(contains(message_of([&] { inspect(folder.path()); }), "b.safetensors"));
}

TEST_CASE("other files give one line of error with the supported kinds") {
  const TemporaryFolder folder;
  overwrite(folder / "empty", "");
  overwrite(folder / "photo.png", "\x89PNG\r\n\x1a\n" + std::string(600, 'x'));
  for (const char* name : {"empty", "photo.png"})
    CHECK(message_of([&] { inspect(folder / name); }) ==
          (folder / name) +
              ": unknown kind of file; supported are configurations (*.yaml), token sets (*.h5), "
              "checkpoints (manifest.json or their folder), *.safetensors, and tokenizers "
              "(*.model, tokenizer.json)");
  CHECK(contains(message_of([&] { inspect(folder.path()); }), ": unknown kind of folder; "));
  CHECK(contains(message_of([&] { inspect(folder / "none"); }), "No such file or directory"));
  overwrite(folder / "x.h5", "");
  overwrite(folder / "x.yaml", "run: [");
  overwrite(folder / "x.model", "no model");
  overwrite(folder / "tokenizer.json", "{");
  overwrite(folder / "manifest.json", "{}");
  for (const char* name : {"x.h5", "x.yaml", "x.model", "tokenizer.json", "manifest.json"}) {
    const std::string message = message_of([&] { inspect(folder / name); });
    CHECK_MESSAGE(contains(message, folder.path()), message);
    CHECK(!contains(message, "\n"));
  }
}
