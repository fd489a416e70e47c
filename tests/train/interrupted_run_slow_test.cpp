// Runs of the program, killed and stopped at random times: nothing that was logged as saved is
// lost, and every checkpoint is bit-identical to that of an undisturbed run.
#include <doctest/doctest.h>

#include <chrono>
#include <cstdlib>
#include <memory>
#include <random>

#include "core/system/folder.h"
#include "tests/support/counts.h"
#include "tests/support/temporary_folder.h"
#include "tests/train/small_run.h"
#include "tests/train/smoe_process.h"
#include "train/checkpoint/checkpoint_store.h"

using namespace smoe;
using namespace smoe::test;

namespace {

// An undisturbed short run that keeps all its checkpoints, and disturbed repetitions of it.
class Disturbance {
 public:
  Disturbance() {
    write_small_token_set(config_.data.path);
    config_.train.steps = kSteps;
    config_.run.threads = 1;
    config_.log.every = 10;
    config_.checkpoint.every = 1;
    config_.checkpoint.keep_every = 1;
    config_.run.name = "whole";
    overwrite(folder_ / "config.yaml", to_yaml(config_));
    const auto start = std::chrono::steady_clock::now();
    const auto whole = begin();
    REQUIRE(whole->wait() == 0);
    duration_ = std::chrono::steady_clock::now() - start;
  }

  // Starts or resumes the current run, which saves every third step and the last one; every second
  // run saves in the background.
  std::unique_ptr<SmoeProcess> begin() {
    std::vector<std::string> arguments = {"train", folder_ / "config.yaml"};
    if (number_ > 0)
      for (const std::string& text :
           {concat("run.name=", name()), std::string("checkpoint.every=3"),
            std::string("checkpoint.keep_every=0"),
            std::string(number_ % 2 ? "checkpoint.async=true" : "checkpoint.async=false")})
        arguments.push_back(text);
    return std::make_unique<SmoeProcess>(arguments, folder_ / "output.txt");
  }
  void next_run() { ++number_; }
  void wait_for_random_time() {
    const auto most = std::chrono::duration_cast<std::chrono::microseconds>(duration_).count();
    ::usleep(static_cast<unsigned>(random_() % static_cast<std::uint64_t>(most)));
  }
  // Returns during a save, as far as visible from outside, or when the process has ended.
  void wait_for_save(SmoeProcess& process) {
    while (!is_saving() && !process.has_ended()) ::usleep(200);
    ::usleep(static_cast<unsigned>(random_() % 2000));
  }
  bool is_saving() const {
    for (const std::string& name : names())
      if (name.starts_with(".tmp-")) return true;
    return false;
  }

  // Compares all checkpoints with those of the undisturbed run; returns the newest step, or 0.
  std::int64_t check_checkpoints() const {
    std::int64_t newest = 0;
    for (const std::string& name : names()) {
      if (!name.starts_with("step-")) continue;
      CAPTURE(name);
      CHECK(shard(folder_of("whole") + name) == shard(folder_of(this->name()) + name));
      newest = Checkpoint(folder_of(this->name()) + name).manifest().step;
    }
    return newest;
  }

  std::uint64_t random() { return random_(); }
  static constexpr std::int64_t kSteps = 36;

 private:
  std::string name() const { return number_ > 0 ? concat("run-", number_) : "whole"; }
  std::string folder_of(const std::string& run) const {
    return folder_ / ("runs/" + run + "/checkpoints/");
  }
  std::vector<std::string> names() const {
    std::vector<std::string> names;
    if (kind_of(folder_of(name())) == PathKind::none) return names;
    for (const FolderEntry& entry : list_folder(folder_of(name()))) names.push_back(entry.name);
    return names;
  }
  static std::string shard(const std::string& checkpoint) {
    return read_file(checkpoint + "/shard-00000.bin", 1 << 24);
  }

  TemporaryFolder folder_;
  Config config_ = small_config(folder_.path());
  std::chrono::duration<double> duration_{};
  std::mt19937_64 random_{23};
  int number_ = 0;
};

// The step after the last occurrence of `words` in the program's output, 0 if there is none.
std::int64_t last_step(const std::string& output, const std::string& words) {
  const std::size_t at = output.rfind(words);
  if (at == std::string::npos) return 0;
  return std::atoll(output.c_str() + output.find_first_of("0123456789", at + words.size()));
}

std::int64_t last_saved(const std::string& output) {
  const std::size_t line = output.rfind("\nsaved ");
  return line == std::string::npos
             ? 0
             : last_step(output.substr(0, output.find('\n', line + 1)), "/step-");
}

}  // namespace

TEST_CASE("a run killed at any time resumes from its last save, bit-identical") {
  Disturbance test;
  const int wanted = repetitions(50, 200);
  int killed = 0, in_save = 0, runs = 0;
  for (test.next_run(); killed < wanted;) {
    const auto process = test.begin();
    if (killed % 4 == 0) {
      test.wait_for_save(*process);
    } else {
      test.wait_for_random_time();
    }
    process->send(SIGKILL);
    const int status = process->wait();
    const std::int64_t newest = test.check_checkpoints();
    CAPTURE(process->output());
    CHECK(newest >= last_saved(process->output()));
    CHECK(process->output().find("damaged") == std::string::npos);
    if (WIFSIGNALED(status)) {
      ++killed;
      in_save += test.is_saving();
    } else {
      CHECK(WEXITSTATUS(status) == 0);
      CHECK(newest == Disturbance::kSteps);
      ++runs;
      test.next_run();
    }
  }
  CHECK(test.begin()->wait() == 0);
  CHECK(test.check_checkpoints() == Disturbance::kSteps);
  CHECK(in_save * 5 >= killed);
  MESSAGE("killed ", killed, " times, ", in_save, " of them during a save; ", runs + 1,
          " runs ended bitwise equal, no saved checkpoint lost");
}

TEST_CASE("a run stopped by a signal at any time loses no step and reports it") {
  Disturbance test;
  constexpr int kSignals[] = {SIGTERM, SIGINT, SIGUSR1};
  const int wanted = repetitions(15, 200);
  int stopped = 0, before_training = 0;
  std::int64_t expected = 0;  // step to resume from
  for (test.next_run(); stopped + before_training < wanted;) {
    const int signal = kSignals[test.random() % 3];
    const auto process = test.begin();
    test.wait_for_random_time();
    process->send(signal);
    const int status = process->wait();
    const std::string output = process->output();
    CAPTURE(output);
    if (const std::size_t at = output.find("resumed from "); at != std::string::npos)
      CHECK(output.substr(at, output.find('\n', at) - at).ends_with(checkpoint_name(expected)));
    const std::int64_t newest = test.check_checkpoints();
    if (newest == Disturbance::kSteps) {  // it had done all steps
      CHECK(
          (WIFSIGNALED(status) || WEXITSTATUS(status) == 0 || WEXITSTATUS(status) == 128 + signal));
      expected = 0;
      test.next_run();
      continue;
    }
    if (WIFSIGNALED(status)) {  // it was not training yet
      CHECK(WTERMSIG(status) == signal);
      CHECK(newest == expected);
      ++before_training;
      continue;
    }
    CHECK(WEXITSTATUS(status) == 128 + signal);
    CHECK(newest == last_step(output, "after step"));
    CHECK(newest > expected);
    expected = newest;
    ++stopped;
  }
  CHECK(test.begin()->wait() == 0);
  CHECK(test.check_checkpoints() == Disturbance::kSteps);
  MESSAGE("signalled ", stopped + before_training, " times, ", stopped,
          " of them while training; no step lost, all checkpoints bitwise equal");
}
