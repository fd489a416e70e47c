// How the program stops: by signals at any time, and not because no process reads its output.
#include <doctest/doctest.h>

#include <chrono>
#include <cstdlib>
#include <thread>

#include "core/system/folder.h"
#include "tests/train/rank_processes.h"
#include "tests/train/run_smoe.h"
#include "tests/train/small_run.h"
#include "tests/train/smoe_process.h"
#include "train/config/run_paths.h"

using namespace smoe;
using namespace smoe::test;

namespace {

struct Setting : SmallRun {
  Setting() {
    config.run.threads = 1;
    save();
  }
  void save() const { overwrite(path(), to_yaml(config)); }
  std::string path() const { return folder / "small.yaml"; }
  RunPaths paths() const { return RunPaths(config.run.folder()); }
  std::string log() const {
    return kind_of(paths().log_path()) == PathKind::file ? read_file(paths().log_path(), 1 << 24)
                                                         : "";
  }
  bool logs_within(double seconds, const std::string& text) const {
    const Deadline deadline = Deadline::in(seconds);
    while (log().find(text) == std::string::npos) {
      if (deadline.has_passed()) return false;
      std::this_thread::sleep_for(std::chrono::milliseconds(2));
    }
    return true;
  }
  std::size_t num_checkpoints() const {
    return kind_of(paths().checkpoints_path()) == PathKind::none
               ? 0
               : list_folder(paths().checkpoints_path()).size();
  }
  // Every validation takes minutes.
  void validate_for_long() {
    const ByteTokenizer tokenizer;
    config.data.validation = folder / "validation.h5";
    TokenSetWriter writer(config.data.validation, tokenizer);
    writer.begin_document(Split::train);
    writer.append("text");
    writer.begin_document(Split::validation);
    for (int i = 0; i < 4000; ++i) writer.append(std::string(1000, static_cast<char>('a' + i % 8)));
    writer.finish();
    config.train.eval_every = 2;
    config.train.micro_batch = 1;
    save();
  }
};

// RAII: SMOE_FAULT of the processes that start in its scope.
struct Faults {
  explicit Faults(const char* faults) { ::setenv("SMOE_FAULT", faults, 1); }
  ~Faults() { ::unsetenv("SMOE_FAULT"); }
};

bool exists_within(double seconds, const std::string& path) {
  const Deadline deadline = Deadline::in(seconds);
  while (kind_of(path) == PathKind::none && !deadline.has_passed())
    std::this_thread::sleep_for(std::chrono::milliseconds(2));
  return kind_of(path) != PathKind::none;
}

}  // namespace

TEST_CASE("readers of the output that go away lose lines and do not end a run") {
  const Setting setting;
  SUBCASE("standard output") {
    run_smoe("train " + setting.path() + " | head -n 1");
  }
  SUBCASE("both outputs") {
    run_smoe("train " + setting.path() + " 2>&1 | head -n 1");
  }
  CHECK(setting.log().find("\nstep 12/12") != std::string::npos);
  CHECK(kind_of(setting.paths().checkpoints_path() + "/step-00000012") == PathKind::folder);
}

TEST_CASE("nor do they end prepare, eval, export and import") {
  const Setting setting;
  REQUIRE(run_smoe("train " + setting.path() + " > /dev/null").exit_code == 0);
  overwrite(setting.folder / "text.txt", std::string(20000, 'x'));
  // The reader is gone before the command begins.
  const auto code_of = [&](const std::string& arguments) {
    const std::string code = setting.folder / "code";
    run_smoe("--version > /dev/null; (sleep 0.3; \"" + smoe_program() + "\" " + arguments +
             "; echo $? > " + code + ") 2>&1 | true");
    return read_file(code, 100);
  };
  const std::string run = setting.paths().path();
  CHECK(code_of("prepare --input " + (setting.folder / "text.txt") + " --output " +
                (setting.folder / "text.h5")) == "0\n");
  CHECK(code_of("eval " + run) == "0\n");
  CHECK(code_of("export " + run + " " + (setting.folder / "exported")) == "0\n");
  CHECK(code_of("import " + (setting.folder / "exported") + " " + (setting.folder / "imported")) ==
        "0\n");
}

TEST_CASE("each stop signal saves a checkpoint and is acknowledged") {
  for (const int signal : {SIGTERM, SIGINT, SIGHUP, SIGUSR1, SIGUSR2, SIGXCPU}) {
    CAPTURE(signal);
    Setting setting;
    setting.config.train.steps = 1'000'000;
    setting.save();
    SmoeProcess process({"train", setting.path()}, setting.folder / "output");
    REQUIRE(setting.logs_within(60, "\nstep "));
    process.send(signal);
    const int status = process.wait();
    CHECK((WIFEXITED(status) && WEXITSTATUS(status) == 128 + signal));
    CHECK(process.output().find("saving after this step; again to end at once\n") !=
          std::string::npos);
    CHECK(setting.log().find("stopped by SIG") != std::string::npos);
    CHECK(setting.num_checkpoints() == 1);
  }
}

TEST_CASE("a signal ends a validation between two batches, and the run saves") {
  Setting setting;
  setting.validate_for_long();
  SUBCASE("one rank") {
    SmoeProcess process({"train", setting.path()}, setting.folder / "output");
    REQUIRE(setting.logs_within(60, "folder "));
    std::this_thread::sleep_for(std::chrono::milliseconds(500));  // in the validation before step 1
    process.send(SIGTERM);
    const Deadline deadline = Deadline::in(20);
    while (!process.has_ended() && !deadline.has_passed())
      std::this_thread::sleep_for(std::chrono::milliseconds(5));
    REQUIRE(process.has_ended());
    CHECK(WEXITSTATUS(process.wait()) == 128 + SIGTERM);
  }
  SUBCASE("two ranks, one of which receives the signal") {
    RankProcesses ranks(setting.folder.path(), 2, [&](int) {
      return std::vector<std::string>{"train", setting.path()};
    });
    REQUIRE(setting.logs_within(60, "folder "));
    std::this_thread::sleep_for(std::chrono::milliseconds(500));
    ranks.send(1, SIGTERM);
    CHECK(ranks.wait_all(20) == std::vector<int>{128 + SIGTERM, 128 + SIGTERM});
  }
  CHECK(setting.log().find("stopped by SIGTERM after step 0") != std::string::npos);
  CHECK(setting.num_checkpoints() == 1);
}

TEST_CASE("a signal stops eval, which says so") {
  Setting setting;
  setting.validate_for_long();
  REQUIRE(
      run_smoe("train " + setting.path() + " train.eval_every=0 train.eval_batches=1 > /dev/null")
          .exit_code == 0);
  SmoeProcess eval({"eval", setting.paths().path()}, setting.folder / "output");
  std::this_thread::sleep_for(std::chrono::milliseconds(1500));
  eval.send(SIGTERM);
  CHECK(WEXITSTATUS(eval.wait()) == 128 + SIGTERM);
  CHECK(eval.output().find("SIGTERM: stopping; again to end at once\n") != std::string::npos);
  CHECK(eval.output().find("smoe eval: stopped by SIGTERM\n") != std::string::npos);
}

TEST_CASE("a signal during a save is acknowledged, and the second ends the process at once") {
  Setting setting;
  setting.config.checkpoint.every = 1;
  setting.save();
  const Faults faults("rename:1+:slow");  // such as that of the checkpoint
  SmoeProcess process({"train", setting.path()}, setting.folder / "output");
  REQUIRE(exists_within(60, setting.paths().checkpoints_path() + "/.tmp-step-00000001"));
  process.send(SIGTERM);
  std::this_thread::sleep_for(std::chrono::milliseconds(400));
  CHECK(!process.has_ended());
  CHECK(process.output().ends_with("SIGTERM: saving after this step; again to end at once\n"));
  process.send(SIGTERM);
  const int status = process.wait();
  CHECK((WIFSIGNALED(status) && WTERMSIG(status) == SIGTERM));
  CHECK(setting.log().find("saved ") == std::string::npos);
}

TEST_CASE("a signal ends a rank that waits for others at once") {
  const Setting setting;
  RankProcesses ranks(setting.folder.path(), 2, [&](int rank) {
    return rank == 1 ? std::vector<std::string>{"--version"}
                     : std::vector<std::string>{"train", setting.path(), "parallel.timeout_s=6"};
  });
  const Deadline deadline = Deadline::in(20);
  while (ranks.output(0).find("waits for rank 1") == std::string::npos && !deadline.has_passed())
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
  ranks.send(0, SIGTERM);
  CHECK(ranks.wait(0) == -SIGTERM);
}

TEST_CASE("a signal stops prepare, export and import, which say so and leave no output") {
  const Setting setting;
  const std::string run = setting.paths().path(), model = setting.folder / "model";
  overwrite(setting.folder / "text.txt", std::string(3'000'000, 'a'));
  REQUIRE(run_smoe("train " + setting.path() + " > /dev/null").exit_code == 0);
  REQUIRE(run_smoe("export " + run + " " + model + " > /dev/null").exit_code == 0);
  const std::string target = setting.folder / "target";
  for (const std::vector<std::string>& arguments :
       {std::vector<std::string>{"prepare", "--input", setting.folder / "text.txt", "--output",
                                 target},
        {"export", run, target},
        {"import", model, target}}) {
    CAPTURE(arguments[0]);
    const Faults faults("write:1+:slow");
    SmoeProcess process(arguments, setting.folder / "output");
    std::this_thread::sleep_for(std::chrono::milliseconds(1000));
    process.send(SIGTERM);
    CHECK(WEXITSTATUS(process.wait()) == 128 + SIGTERM);
    CHECK(process.output().find("SIGTERM: stopping; again to end at once\n") != std::string::npos);
    CHECK(process.output().ends_with(
        concat("smoe ", arguments[0], ": stopped by SIGTERM; ", target, " was not written\n")));
    for (const FolderEntry& entry : list_folder(setting.folder.path()))
      CHECK(!entry.name.starts_with("target"));
  }
}

#ifndef __SANITIZE_ADDRESS__  // which handles these signals itself
TEST_CASE("a fatal signal ends a run within seconds, with a stack trace in its log") {
  Setting setting;
  setting.config.train.steps = 1'000'000;
  for (const int signal : {SIGSEGV, SIGABRT}) {
    // Names are missing where the signal interrupts malloc, which demangling needs.
    bool is_named = false;
    for (int attempt = 0; attempt < 5 && !is_named; ++attempt) {
      setting.config.run.name = concat("crash", signal, "-", attempt);
      setting.save();
      SmoeProcess process({"train", setting.path()}, setting.folder / "output");
      REQUIRE(setting.logs_within(60, "\nstep "));
      process.send_to_main_thread(signal);
      const int status = process.wait();
      CHECK((WIFSIGNALED(status) && WTERMSIG(status) == signal));
      const std::string log = setting.log();
      const std::size_t trace = log.find(concat(
          "fatal signal SIG", signal == SIGSEGV ? "SEGV" : "ABRT", "; stack of its thread:\n"));
      REQUIRE(trace != std::string::npos);
      CAPTURE(log.substr(trace));
      CHECK(log.find("_ZN4smoe3Run5trainEv", trace) != std::string::npos);
      CHECK(process.output().find("; stack of its thread:\n") != std::string::npos);
      is_named = log.find("\n  in smoe::Run::train()\n", trace) != std::string::npos;
    }
    CHECK(is_named);
  }
}
#endif
