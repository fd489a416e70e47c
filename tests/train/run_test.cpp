#include <doctest/doctest.h>

#include <chrono>
#include <csignal>
#include <map>
#include <sstream>
#include <thread>

#include "core/system/folder.h"
#include "tests/train/small_run.h"
#include "train/config/run_paths.h"
#include "train/inspect/inspect.h"
#include "train/load_model.h"
#include "train/open_run.h"
#include "train/report/report_page.h"

using namespace smoe;
using namespace smoe::test;

namespace {

struct Setting : SmallRun {
  Setting() {
    config.log.every = 5;
    config.train.steps = 60;
    config.checkpoint.every = 20;
  }
};

std::string text_of(const std::string& path) {
  return read_file(path, 1 << 20);
}

// The bytes of all tensors of a checkpoint.
std::string state_at(const Config& config, const std::string& checkpoint) {
  return read_file(config.run.folder() + "/checkpoints/" + checkpoint + "/shard-00000.bin",
                   1 << 24);
}

int count_of(const std::string& text, const std::string& part) {
  int count = 0;
  for (std::size_t at = text.find(part); at != std::string::npos; at = text.find(part, at + 1))
    ++count;
  return count;
}

// Sends this process a signal once the metrics of the run have a step.
void raise_while_training(const Config& config, int signal) {
  const std::string metrics = RunPaths(config.run.folder()).metrics_path();
  while (kind_of(metrics) != PathKind::file || count_of(text_of(metrics), "\n") < 2)
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  std::raise(signal);
}

}  // namespace

TEST_CASE("a run leaves config, tokenizer, metrics, log and the checkpoints to keep") {
  const Setting setting;
  const RunPaths paths(setting.config.run.folder());
  CHECK(open_run(setting.config)->train() == 0);
  CHECK(config_digest(load_config(paths.config_path())) == config_digest(setting.config));
  CHECK(load_tokenizer(paths.tokenizer_path())->vocab_size() == 257);
  CHECK(count_of(text_of(paths.metrics_path()), "\"kind\":\"step\"") == 12);
  CHECK(count_of(text_of(paths.metrics_path()), "\"kind\":\"validation\"") == 1);
  CHECK(count_of(text_of(paths.log_path()), "\nstep ") == 13);
  std::vector<std::string> names;
  for (const FolderEntry& entry : list_folder(paths.checkpoints_path()))
    names.push_back(entry.name);
  CHECK(names == std::vector<std::string>{"step-00000040", "step-00000060"});

  SUBCASE("and has nothing left to do when started again") {
    const std::string before = state_at(setting.config, "step-00000060");
    CHECK(open_run(setting.config)->train() == 0);
    CHECK(state_at(setting.config, "step-00000060") == before);
    CHECK(count_of(text_of(paths.metrics_path()), "\"kind\":\"validation\"") == 1);
  }
  SUBCASE("and its model loads from the run or from a checkpoint") {
    CHECK(load_model(paths.path()).step == 60);
    CHECK(load_model(paths.checkpoints_path() + "/step-00000040").step == 40);
    CHECK_THROWS_AS(load_model(setting.folder.path()), UsageError);
  }
}

TEST_CASE("the README of a run lists all files, and its page follows from metrics and config") {
  Setting setting;
  setting.config.log.tensorboard = true;
  const RunPaths paths(setting.config.run.folder());
  const auto check_folder = [&](int num_events) {
    const std::string readme = text_of(paths.path() + "/README.txt");
    int events = 0;
    for (const FolderEntry& entry : list_folder(paths.path())) {
      CAPTURE(entry.name);
      const bool is_events = entry.name.starts_with("events.out.tfevents.");
      events += is_events;
      const std::string name = is_events ? "events.out.*" : entry.name;
      if (name != "README.txt") CHECK(readme.find("\n" + name) != std::string::npos);
    }
    CHECK(events == num_events);
  };
  const auto page = [&] {
    RunHistory history;
    read_metrics(
        paths.metrics_path(), [&](const Report& report) { history.add(report); },
        [](const std::string& line) { FAIL(line); });
    // As of the time that the run's page was written.
    const std::string written = text_of(paths.report_path()), mark = "data-updated=\"";
    const std::string updated = written.substr(written.find(mark) + mark.size(), 20);
    return report_page(history, load_config(paths.config_path()), {RunState::finished, updated});
  };
  CHECK(open_run(setting.config)->train() == 0);
  check_folder(1);
  CHECK(text_of(paths.report_path()) == page());
  // The run resumes from an older checkpoint.
  remove_folder(paths.checkpoints_path() + "/step-00000060");
  CHECK(open_run(setting.config)->train() == 0);
  check_folder(2);
  CHECK(text_of(paths.report_path()) == page());
  CHECK(page().find("class=\"mark\"") != std::string::npos);
  // Nothing left to do, hence no new event file.
  CHECK(open_run(setting.config)->train() == 0);
  check_folder(2);
}

TEST_CASE("a run continues without a page that cannot be written, and reports it once") {
  const Setting setting;
  const RunPaths paths(setting.config.run.folder());
  make_folders(paths.report_path() + "/in the way");
  CHECK(open_run(setting.config)->train() == 0);
  CHECK(count_of(text_of(paths.log_path()), "report.html: continuing without it: ") == 1);
}

TEST_CASE(
    "a run stopped by a signal saves, resumes, and ends bit-identical to an undisturbed run") {
  const Setting setting;
  const Config whole = setting.named("whole");
  CHECK(open_run(whole)->train() == 0);
  for (const int signal : {SIGTERM, SIGINT, SIGUSR1}) {
    Config stopped = setting.named("stopped" + std::to_string(signal));
    stopped.log.every = 1;
    {
      const auto run = open_run(stopped);
      std::thread sender(raise_while_training, stopped, signal);
      CHECK(run->train() == 128 + signal);
      sender.join();
    }
    const auto saved = list_folder(stopped.run.folder() + "/checkpoints");
    REQUIRE_FALSE(saved.empty());
    CHECK(saved.back().name < "step-00000060");
    CHECK(open_run(stopped)->train() == 0);
    CHECK(state_at(stopped, "step-00000060") == state_at(whole, "step-00000060"));
    // Each step occurs once in the metrics.
    CHECK(count_of(text_of(RunPaths(stopped.run.folder()).metrics_path()), "\"kind\":\"step\"") ==
          60);
  }
}

TEST_CASE("a damaged checkpoint is logged and skipped") {
  const Setting setting;
  const Config& config = setting.config;
  CHECK(open_run(config)->train() == 0);
  const std::string whole = state_at(config, "step-00000060");
  const std::string path = config.run.folder() + "/checkpoints/step-00000060/shard-00000.bin";
  std::string damaged = whole;
  damaged[damaged.size() / 2] ^= 4;
  overwrite(path, damaged);
  CHECK(open_run(config)->train() == 0);
  const std::string log = text_of(RunPaths(config.run.folder()).log_path());
  CHECK(count_of(log, "passing over a damaged checkpoint: " + path + ": tensor ") == 1);
  CHECK(count_of(log, "resumed from " + config.run.folder() + "/checkpoints/step-00000040") == 1);
  CHECK(state_at(config, "step-00000060") == whole);
}

TEST_CASE("data or configuration that differ from the checkpoint's are refused") {
  Setting setting;
  CHECK(open_run(setting.config)->train() == 0);
  Config other = setting.config;
  other.optim.lr = 0.5;
  CHECK_THROWS_AS(open_run(other), UsageError);
  other = setting.config;
  other.checkpoint.resume = "none";
  CHECK_THROWS_AS(open_run(other), UsageError);
  const std::string set = read_file(setting.config.data.path, 1 << 24);
  other = setting.config;
  other.data.path = setting.folder / "other.h5";
  const ByteTokenizer tokenizer;
  TokenSetWriter writer(other.data.path, tokenizer);
  writer.begin_document(Split::train);
  writer.append(std::string(5000, 'x'));
  writer.finish();
  CHECK_THROWS_AS(open_run(other), UsageError);
}

TEST_CASE("a model is used only with its own configuration and tokenizer") {
  const Setting setting;
  CHECK(open_run(setting.config)->train() == 0);
  const RunPaths paths(setting.config.run.folder());
  const Manifest manifest = Checkpoint(paths.checkpoints_path() + "/step-00000060").manifest();
  CHECK(manifest.tokenizer_digest == ByteTokenizer().digest());
  CHECK(manifest.processor.find("OpenBLAS ") != std::string::npos);
  const std::string written = text_of(paths.config_path());
  const auto message_with = [&](const std::string& from, const std::string& to) {
    std::string changed = written;
    changed.replace(changed.find(from), from.size(), to);
    overwrite(paths.config_path(), changed);
    return message_of([&] { load_model(paths.path()); });
  };
  const std::string refusal = paths.config_path() + ": is not the configuration of ";
  for (const auto& [from, to] : std::map<std::string, std::string>{
           {"top_k: 2", "top_k: 3"}, {"rope_theta: 10000", "rope_theta: 90000"}}) {
    CHECK(message_with(from, to).starts_with(refusal));
    CHECK(message_of([&] { inspect(paths.path(), {.is_verified = true}); }).starts_with(refusal));
  }
  overwrite(paths.config_path(), written);
  CHECK(load_model(paths.path()).step == 60);
  overwrite(paths.tokenizer_path(), "another");
  CHECK(message_of([&] {
          load_model(paths.path());
        }).ends_with("is not the tokenizer that the model was trained with; restore that one"));
}

TEST_CASE("losses that are not finite end a run according to its policy") {
  const Setting setting;
  Config config = setting.config;
  config.optim.lr = 1e30;  // the first update makes the weights huge
  config.schedule.warmup_steps = 0;
  config.train.max_nonfinite = 3;
  const auto error_of = [&](NonfinitePolicy policy, const std::string& name) {
    config.train.on_nonfinite = policy;
    config.run.name = name;
    return message_of([&] { open_run(config)->train(); });
  };
  CHECK(error_of(NonfinitePolicy::skip, "skip") ==
        "step 4: loss or gradient norm is not finite; its update was not applied; 3 such steps in "
        "a row, the limit set by train.max_nonfinite");
  CHECK(error_of(NonfinitePolicy::stop, "stop") ==
        "step 2: loss or gradient norm is not finite; its update was not applied; stopping, as "
        "set by train.on_nonfinite");
  CHECK(kind_of(config.run.folder() + "/checkpoints/step-00000002") == PathKind::folder);
  CHECK(error_of(NonfinitePolicy::rollback, "rollback") ==
        "step 2: there is no checkpoint yet to roll back to");
  config.checkpoint.every = 1;
  CHECK(error_of(NonfinitePolicy::rollback, "rollbacks") ==
        "step 2: rolled back 3 times, the limit set by train.max_nonfinite");
  const std::string log = text_of(RunPaths(config.run.folder()).log_path());
  CHECK(count_of(log, "rolled back from step 2 to step 1; the data in between is skipped") == 3);
}

TEST_CASE("a missing token set is reported with a remedy") {
  const Setting setting;
  Config config = setting.config;
  config.data.path = setting.folder / "none.h5";
  CHECK(message_of([&] { open_run(config); }) ==
        "data.path: there is no " + config.data.path + "; make it with `smoe prepare`");
}

TEST_CASE("a mixture is validated per source and resumes, but not on other data") {
  Setting setting;
  const std::string web = setting.folder / "web.h5", code = setting.folder / "code.h5";
  const auto write = [](const std::string& path, const std::string& word) {
    const ByteTokenizer tokenizer;
    TokenSetWriter writer(path, tokenizer);
    for (const Split split : {Split::train, Split::validation}) {
      writer.begin_document(split);
      for (int i = 0; i < (split == Split::train ? 300 : 20); ++i)
        writer.append(word + std::to_string(i * i % 97));
    }
    writer.finish();
  };
  write(web, " word");
  write(code, ";\n");
  setting.config.data = {"", {{"web", web, 0.7}, {"code", code, 0.3}}, ""};
  setting.config.train.eval_every = 20;
  const Config whole = setting.named("whole"), parts = setting.named("parts");
  CHECK(open_run(whole)->train() == 0);
  const std::string metrics = text_of(RunPaths(whole.run.folder()).metrics_path());
  CHECK(count_of(metrics, "\"sources\":{\"name\":[\"web\",\"code\"],\"tokens\":[") == 4);
  const std::string log = text_of(RunPaths(whole.run.folder()).log_path());
  CHECK(count_of(log, "data    2 sets: web 70%, code 30%") == 1);
  CHECK(count_of(log, "  web ") == 4);

  Config stopped = parts;
  stopped.log.every = 1;
  {
    const auto run = open_run(stopped);
    std::thread sender(raise_while_training, stopped, SIGTERM);
    CHECK(run->train() == 128 + SIGTERM);
    sender.join();
  }
  CHECK(open_run(stopped)->train() == 0);
  CHECK(state_at(parts, "step-00000060") == state_at(whole, "step-00000060"));

  Config longer = whole;
  longer.data.sources[0].weight = 0.6;
  CHECK(message_of([&] { open_run(longer); }).find("data.sources.web.weight=0.6") !=
        std::string::npos);
  write(code, ";\t");
  CHECK(message_of([&] { open_run(whole); }).find("data") != std::string::npos);
  CHECK(message_of([&] { open_run(whole); }) != "no error");
}

TEST_CASE("the next start makes up a validation and a page that a dead process left out") {
  Setting setting;
  setting.config.train.eval_every = 20;
  const Config& config = setting.config;
  const RunPaths paths(config.run.folder());
  CHECK(open_run(config)->train() == 0);
  const std::string metrics = text_of(paths.metrics_path());
  const std::string page = text_of(paths.report_path());
  const auto without_validation_of = [&](int step) {
    std::string rest;
    std::istringstream lines(metrics);
    const std::string start = concat("\"kind\":\"validation\",\"step\":", step, ",");
    for (std::string line; std::getline(lines, line);)
      if (line.find(start) == std::string::npos) rest += line + "\n";
    REQUIRE(rest.size() < metrics.size());
    return rest;
  };
  const auto losses = [](const std::string& text) {  // of validations
    std::vector<std::string> found;
    std::istringstream lines(text);
    for (std::string line; std::getline(lines, line);)
      if (const std::size_t at = line.find("\"loss\":");
          at != std::string::npos && line.find("\"validation\"") != std::string::npos)
        found.push_back(line.substr(at, line.find(',', at) - at));
    return found;
  };
  SUBCASE("after the last step") {
    overwrite(paths.metrics_path(), without_validation_of(60));
  }
  SUBCASE("between two steps") {
    overwrite(paths.metrics_path(), without_validation_of(40));
    remove_folder(paths.checkpoints_path() + "/step-00000060");
  }
  SUBCASE("the page") {
    remove_file(paths.report_path());
  }
  CHECK(open_run(config)->train() == 0);
  CHECK(losses(text_of(paths.metrics_path())) == losses(metrics));
  CHECK(kind_of(paths.report_path()) == PathKind::file);
}

TEST_CASE("a run whose folder is removed, moved or replaced ends and creates nothing") {
  Setting setting;
  Config& config = setting.config;
  config.train.steps = 1'000'000;
  config.log.every = 1;
  config.checkpoint.every = 50;
  const std::string folder = config.run.folder(), moved = setting.folder / "moved";
  bool is_replaced = false;
  SUBCASE("moved") {}
  SUBCASE("replaced") {
    is_replaced = true;
  }
  std::thread other([&] {
    const std::string metrics = RunPaths(folder).metrics_path();
    while (kind_of(metrics) != PathKind::file || count_of(text_of(metrics), "\n") < 3)
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
    rename_path(folder, moved);
    if (is_replaced) make_folders(folder);
  });
  const std::string message = message_of([&] { open_run(config)->train(); });
  other.join();
  CHECK(message.find(folder + ": the folder was removed, moved or replaced while this run") == 0);
  if (is_replaced)
    CHECK(list_folder(folder).empty());
  else
    CHECK(kind_of(folder) == PathKind::none);
}

TEST_CASE("a start warns of gates from which the router cannot learn") {
  Setting setting;
  Config& config = setting.config;
  config.train.steps = 1;
  config.schedule.warmup_steps = 0;
  const std::string log = RunPaths(config.run.folder()).log_path();
  open_run(config);
  CHECK(count_of(text_of(log), "warning model.top_k is 1") == 0);
  config.model.top_k = 1;
  remove_folder(config.run.folder());
  open_run(config);
  CHECK(count_of(text_of(log), "warning model.top_k is 1 with gates that sum to one") == 1);
}
