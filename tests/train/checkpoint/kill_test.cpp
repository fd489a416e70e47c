// Kills a process that saves continuously, at random times: every checkpoint that it had logged as
// saved must be intact afterwards.
#include <doctest/doctest.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <random>

#include "core/system/folder.h"
#include "tests/support/temporary_folder.h"
#include "tests/train/checkpoint/fake_state.h"
#include "train/checkpoint/checkpoint_store.h"

using namespace smoe;

namespace {

CheckpointStore open_store(const std::string& folder, CheckpointStore::Log log) {
  return {{folder, 2, 0}, std::move(log)};
}

// Saves step after step and writes each step that is logged as saved to the pipe.
[[noreturn]] void save_forever(const std::string& folder, std::int64_t step, int pipe) {
  CheckpointStore store = open_store(folder, [&](const std::string& line) {
    if (line.find("saved") == 0 && ::write(pipe, &step, sizeof step) < 0) ::_exit(1);
  });
  for (;; ++step) {
    FakeState state(static_cast<std::uint64_t>(step));
    store.save(fake_header(step), state.visitable());
  }
}

// Starts a child that saves from `step`, kills it `micros` microseconds after its first logged
// save, and returns the last step that it logged.
std::int64_t save_until_killed(const std::string& folder, std::int64_t step, unsigned micros) {
  int ends[2];
  REQUIRE(::pipe(ends) == 0);
  const pid_t child = ::fork();
  REQUIRE(child >= 0);
  if (child == 0) save_forever(folder, step, ends[1]);
  ::close(ends[1]);
  std::int64_t logged = 0;
  CHECK(::read(ends[0], &logged, sizeof logged) == sizeof logged);
  ::usleep(micros);
  ::kill(child, SIGKILL);
  int status = 0;
  REQUIRE(::waitpid(child, &status, 0) == child);
  CHECK(WIFSIGNALED(status));
  while (::read(ends[0], &logged, sizeof logged) > 0) {
  }
  ::close(ends[0]);
  return logged;
}

}  // namespace

TEST_CASE("a process killed at any time loses nothing that it logged as saved") {
  const TemporaryFolder folder;
  std::mt19937_64 random(11);
  std::int64_t step = 0;
  int num_in_a_save = 0;
  for (int i = 0; i < 30; ++i) {
    const std::int64_t logged =
        save_until_killed(folder.path(), step + 1, static_cast<unsigned>(random() % 50'000));
    for (const FolderEntry& entry : list_folder(folder.path()))
      num_in_a_save += entry.name.find(".tmp-") == 0;
    bool is_damaged = false;
    CheckpointStore store = open_store(folder.path(), [&](const std::string& line) {
      is_damaged = is_damaged || line.find("damaged") != std::string::npos;
    });
    FakeState state(999);
    step = store.resume("auto", fake_header(0), state.visitable()).value_or(0);
    CHECK(step >= logged);
    CHECK(!is_damaged);
    if (step > 0) CHECK(state.bits() == FakeState(static_cast<std::uint64_t>(step)).bits());
  }
  CHECK(num_in_a_save > 0);
  CHECK(step > 0);
}
