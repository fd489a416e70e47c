// Runs whose configuration changes between two starts.
#include <doctest/doctest.h>

#include "core/system/folder.h"
#include "tests/support/text.h"
#include "tests/train/config/message_of.h"
#include "tests/train/small_run.h"
#include "train/checkpoint/checkpoint.h"
#include "train/load_model.h"
#include "train/open_run.h"

using namespace smoe;
using namespace smoe::test;

namespace {

struct ChangedRun : SmallRun {
  ChangedRun() {
    config.train.steps = 8;
    config.schedule.warmup_steps = 2;
    config.schedule.kind = ScheduleKind::constant;
    config.model.router.balance_loss = 0;
    config.checkpoint.keep = 10;
  }

  int train(const Config& changed, const std::vector<std::string>& consent = {}) const {
    return open_run(changed, Ranks::single(), consent)->train();
  }
};

std::string file_of(const Config& config, const std::string& name) {
  return read_file(config.run.folder() + "/" + name, 1 << 22);
}

std::string state_after(const Config& config, std::int64_t step) {
  return file_of(config, concat("checkpoints/", checkpoint_name(step), "/shard-00000.bin"));
}

int occurrences(const std::string& text, const std::string& part) {
  int count = 0;
  for (std::size_t at = text.find(part); at != std::string::npos; at = text.find(part, at + 1))
    ++count;
  return count;
}

}  // namespace

TEST_CASE("a run with a constant rate is extended as if it had been longer from the start") {
  const ChangedRun test;
  Config longer = test.config;
  longer.train.steps = 12;
  test.train(test.config);
  CHECK(test.train(longer) == 0);
  Config whole = longer;
  whole.run.name = "whole";
  test.train(whole);
  CHECK(state_after(longer, 12) == state_after(whole, 12));
  const std::string change =
      "{\"kind\":\"change\",\"step\":8,\"steps\":12,\"changes\":{\"key\":[\"train.steps\"],"
      "\"before\":[\"8\"],\"after\":[\"12\"]}}";
  CHECK(occurrences(file_of(longer, "metrics.jsonl"), change) == 1);
  CHECK(file_of(longer, "config.yaml").ends_with("# changed after step 8: train.steps 8 -> 12\n"));
  CHECK(occurrences(file_of(longer, "log.txt"), "changed: train.steps 8 -> 12") == 1);
  CHECK(occurrences(file_of(longer, "report.html"), "changed after step 8: train.steps") == 1);
  CHECK(occurrences(file_of(longer, "report.html"), "mark change") >= 1);
  // Every checkpoint of the run still has its model.
  CHECK(load_model(longer.run.folder() + "/checkpoints/step-00000008").step == 8);
}

TEST_CASE("a change needs consent and is recorded once") {
  const ChangedRun test;
  test.train(test.config);
  Config changed = test.config;
  changed.optim.lr = 0.5;
  changed.train.steps = 10;
  CHECK(contains(message_of([&] { test.train(changed); }), "add --change optim.lr"));
  CHECK(file_of(changed, "config.yaml") == to_yaml(test.config));
  // A start that ends before it saves is repeated by the same command.
  { open_run(changed, Ranks::single(), {"optim.lr"}); }
  CHECK(test.train(changed, {"optim.lr"}) == 0);
  CHECK(test.train(changed, {"optim.lr"}) == 0);
  CHECK(test.train(changed) == 0);  // from now on it is the configuration of the run
  CHECK(occurrences(file_of(changed, "metrics.jsonl"), "\"kind\":\"change\"") == 1);
  CHECK(occurrences(file_of(changed, "config.yaml"), "# changed after step 8: ") == 1);
  CHECK(contains(file_of(changed, "log.txt"), "next step is 0.5"));
  CHECK(contains(file_of(changed, "metrics.jsonl"), "\"step\":10,\"steps\":10"));
  Config shorter = changed;
  shorter.train.steps = 9;
  CHECK(contains(message_of([&] { test.train(shorter, {"train.steps"}); }),
                 "at least the 10 steps that are done"));
}

TEST_CASE("a changed batch continues where the data was") {
  const ChangedRun test;
  test.train(test.config);
  Config changed = test.config;
  changed.train.global_batch = 2;
  changed.train.steps = 12;
  CHECK(test.train(changed, {"train.global_batch"}) == 0);
  const Checkpoint checkpoint(changed.run.folder() + "/checkpoints/step-00000012");
  REQUIRE(checkpoint.manifest().data);
  CHECK(checkpoint.manifest().data->step == 8);
  CHECK(checkpoint.manifest().data->sources.at(0).samples == 32);
  CHECK(contains(file_of(changed, "metrics.jsonl"),
                 concat("\"step\":12,\"steps\":12,\"tokens\":", (8 * 4 + 4 * 2) * 17)));
  // The sizes before and after are data of checkpoints only: it resumes, here to no more steps.
  Config more = changed;
  more.train.steps = 14;
  CHECK(test.train(more) == 0);
  const Checkpoint later(changed.run.folder() + "/checkpoints/step-00000014");
  CHECK(later.manifest().data->sources.at(0).samples == 32);
}

TEST_CASE("a smaller micro-batch continues the same run up to rounding") {
  const ChangedRun test;
  Config changed = test.config;
  test.train(test.config);
  changed.train.micro_batch = 1;
  changed.train.steps = 12;
  CHECK(test.train(changed, {"train.micro_batch"}) == 0);
  Config whole = test.config;
  whole.run.name = "whole";
  whole.train.steps = 12;
  test.train(whole);
  const auto loss = [](const Config& config) {
    const std::string metrics = file_of(config, "metrics.jsonl");
    const std::size_t at = metrics.find("\"loss\":", metrics.find("\"step\":12,"));
    return std::stod(metrics.substr(at + 7));
  };
  CHECK(loss(changed) == doctest::Approx(loss(whole)).epsilon(1e-5));
}

TEST_CASE("a blend can be re-weighted and gain a source, but its sets are those trained on") {
  ChangedRun test;
  const std::string more = test.folder / "more.h5";
  write_small_token_set(more);
  test.config.data = {"", {{"a", test.folder / "small.h5", 0.75}, {"b", more, 0.25}}, ""};
  test.train(test.config);
  Config changed = test.config;
  changed.train.steps = 12;
  changed.data.sources = {{"a", test.folder / "small.h5", 0.5}, {"b", more, 0.25}, {"c", more, 1}};
  CHECK(contains(message_of([&] { test.train(changed); }),
                 "--change data.sources.a.weight,data.sources.c.weight"));
  CHECK(test.train(changed, {"data.sources"}) == 0);
  const Checkpoint checkpoint(changed.run.folder() + "/checkpoints/step-00000012");
  const std::vector<ManifestSource>& sources = checkpoint.manifest().data->sources;
  REQUIRE(sources.size() == 3);
  CHECK(sources[0].samples == 24);
  CHECK(sources[1].samples == 8);
  CHECK(sources[2].samples == 0);
  const ByteTokenizer tokenizer;
  TokenSetWriter writer(more, tokenizer);
  writer.begin_document(Split::train);
  writer.append(std::string(5000, 'x'));
  writer.finish();
  CHECK(contains(message_of([&] { test.train(changed); }), "other contents"));
}

TEST_CASE("a branch keeps the state and the data of the run that it leaves") {
  const ChangedRun test;
  test.train(test.config);
  Config branch = test.config;
  branch.run.name = "branch";
  branch.checkpoint.resume = test.config.run.folder() + "/checkpoints/step-00000008";
  branch.train.steps = 12;
  { open_run(branch); }            // ends before its first checkpoint
  CHECK(test.train(branch) == 0);  // the same command branches again,
  branch.train.steps = 14;
  CHECK(test.train(branch) == 0);  // and resumes from its own checkpoints
  Config whole = branch;
  whole.run.name = "whole";
  whole.checkpoint.resume = "auto";
  test.train(whole);
  CHECK(state_after(branch, 14) == state_after(whole, 14));
  branch.checkpoint.resume = test.config.run.folder() + "/checkpoints/step-00000004";
  CHECK(contains(message_of([&] { test.train(branch); }), "contains a run that the checkpoint"));
}

TEST_CASE("a run can begin with the weights of another, or also with its moments") {
  const ChangedRun test;
  test.train(test.config);
  const auto first_norm = [&](const std::string& name, InitParts parts) {
    Config config = test.named(name);
    config.train.init_from = test.config.run.folder();
    config.train.init_parts = parts;
    config.schedule.warmup_steps = 0;
    config.train.steps = 1;
    test.train(config);
    return state_after(config, 1);
  };
  const std::string weights = first_norm("weights", InitParts::weights);
  const std::string moments = first_norm("moments", InitParts::optimizer);
  CHECK(weights != moments);
  CHECK(contains(file_of(test.named("moments"), "log.txt"), "weights and moments from "));
  const Checkpoint checkpoint(test.named("moments").run.folder() + "/checkpoints/step-00000001");
  CHECK(checkpoint.manifest().integers.at("updates") == 9);
}
