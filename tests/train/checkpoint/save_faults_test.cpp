// Injects each kind of failure at each system call of a save: whichever call fails, and wherever
// the process dies, earlier checkpoints stay intact, whatever was logged as saved exists, the error
// names the path and the reason, and no temporary folder is left.
#include <doctest/doctest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <set>
#include <system_error>

#include "core/system/fault.h"
#include "core/system/folder.h"
#include "tests/support/temporary_folder.h"
#include "tests/train/checkpoint/fake_state.h"
#include "train/checkpoint/checkpoint_store.h"

using namespace smoe;

namespace {

// The fault sites of a save. Their calls must be all its system calls.
constexpr const char* kSites[] = {"stat",  "list",  "mkdir",  "open",   "read", "write",
                                  "fsync", "close", "rename", "unlink", "rmdir"};

// A save to disturb, and the state before it.
struct Scenario {
  std::vector<std::int64_t> saved_before;  // steps, which are the seeds of their states
  std::int64_t step;
  std::uint64_t seed;                 // of the state to save
  std::set<std::uint64_t> survivors;  // seeds that a resume may find before it is saved
};

const Scenario kForward{{10, 20}, 30, 30, {20, 30}};
// The run went back to step 15 and reaches step 20 again.
const Scenario kReplacing{{10, 20, 30}, 20, 77, {30, 20, 77}};

struct Disturbed {
  explicit Disturbed(const Scenario& scenario) : scenario(scenario) {
    CheckpointStore store = open();
    for (const std::int64_t step : scenario.saved_before) {
      FakeState state(static_cast<std::uint64_t>(step));
      store.save(fake_header(step), state.visitable());
    }
    log.clear();
  }
  CheckpointStore open() {
    return {{folder.path(), 3, 0}, [this](const std::string& line) { log += line + "\n"; }};
  }
  std::string save() {
    CheckpointStore store = open();
    FakeState state(scenario.seed);
    return message_of([&] { store.save(fake_header(scenario.step), state.visitable()); });
  }
  bool has_logged(const std::string& part) const { return log.find(part) != std::string::npos; }
  bool has_temporaries() const {
    for (const FolderEntry& entry : list_folder(folder.path()))
      if (entry.name.starts_with(".tmp-")) return true;
    return false;
  }

  // Every disturbance must leave an intact checkpoint of a permitted state, from which the run can
  // resume and save.
  void check_survival(bool is_saved) {
    FakeState state(999);
    log.clear();
    CHECK(open().resume("auto", fake_header(0), state.visitable()));
    CHECK_FALSE(has_logged("damaged"));
    CHECK_FALSE(has_temporaries());
    std::uint64_t seed = 0;
    for (const std::uint64_t candidate : scenario.survivors)
      if (state.bits() == FakeState(candidate).bits()) seed = candidate;
    CHECK(seed != 0);
    if (is_saved) CHECK(seed == scenario.seed);
    CHECK(save() == "no error");
    CHECK(has_logged("saved " + folder.path()));
    CHECK_FALSE(has_temporaries());
    CHECK(open().newest_intact()->manifest().step == scenario.step);
  }

  Scenario scenario;
  TemporaryFolder folder{fast_parent()};
  std::string log;
};

// Calls check(site, index of the call) for all calls of an undisturbed save and prints their
// number.
template <class Check>
void for_calls(const Scenario& scenario, Check&& check) {
  std::map<std::string, std::int64_t> calls;
  {
    Disturbed undisturbed(scenario);
    const FaultScope count;
    REQUIRE(undisturbed.save() == "no error");
    std::int64_t total = 0;
    for (const char* site : kSites) total += calls[site] = count.calls(site);
    REQUIRE(total == count.calls("*"));
    REQUIRE(total > 50);
  }
  std::int64_t tried = 0;
  for (const auto& [site, num_calls] : calls)
    for (std::int64_t k = 1; k <= num_calls; ++k) {
      CAPTURE(site);
      CAPTURE(k);
      check(site, k);
      ++tried;
    }
  MESSAGE("each of ", tried, " calls");
}

// Fails the save at one call, or at that and all later ones.
void fail_save(const Scenario& scenario, const std::string& site, const std::string& calls,
               const char* action, int error) {
  Disturbed test(scenario);
  std::string message;
  {
    const FaultScope scope(concat(site, ":", calls, ":", action));
    message = test.save();
  }
  const std::string reason = std::generic_category().message(error);
  CAPTURE(message);
  CAPTURE(test.log);
  const bool is_saved = test.has_logged("saved " + test.folder.path());
  if (message != "no error") {
    CHECK(message.find(reason) != std::string::npos);
    CHECK(message.find(test.folder.path()) != std::string::npos);
    CHECK_FALSE(is_saved);
    if (!calls.ends_with('+')) CHECK_FALSE(test.has_temporaries());
  } else {
    // An old checkpoint that cannot be removed does not end the run, and is logged, as is one that
    // is set aside because it cannot be read. Closing a file that was only read reports no error.
    CHECK(is_saved);
    const bool is_logged = test.has_logged(reason);
    CHECK((is_logged || site == "close"));
  }
  test.check_survival(is_saved);
}

}  // namespace

TEST_CASE(
    "a save that fails at any one call keeps earlier checkpoints and reports path and reason") {
  for (const Scenario& scenario : {kForward, kReplacing})
    for_calls(scenario, [&](const std::string& site, std::int64_t k) {
      fail_save(scenario, site, std::to_string(k), "EIO", EIO);
      fail_save(scenario, site, std::to_string(k), "ENOSPC", ENOSPC);
    });
}

TEST_CASE("so does a save that fails at a call and all later ones, as on a failed disk") {
  for (const Scenario& scenario : {kForward, kReplacing})
    for_calls(scenario, [&](const std::string& site, std::int64_t k) {
      fail_save(scenario, site, std::to_string(k) + "+", "EIO", EIO);
      fail_save(scenario, "*", std::to_string(k) + "+", "EIO", EIO);
    });
}

TEST_CASE("a save continues after interrupted calls and after short reads and writes") {
  for (const Scenario& scenario : {kForward, kReplacing})
    for_calls(scenario, [&](const std::string& site, std::int64_t k) {
      for (const char* action : {"EINTR", "short"}) {
        Disturbed test(scenario);
        {
          const FaultScope scope(concat(site, ":", k, ":", action));
          CHECK(test.save() == "no error");
        }
        CHECK_FALSE(test.has_temporaries());
        CHECK_FALSE(test.has_logged("the next save retries"));
        test.check_survival(true);
      }
    });
}

TEST_CASE("a process that dies at any call of a save loses nothing that it logged as saved") {
  for (const Scenario& scenario : {kForward, kReplacing})
    for_calls(scenario, [&](const std::string& site, std::int64_t k) {
      Disturbed test(scenario);
      int ends[2];
      REQUIRE(::pipe(ends) == 0);
      const pid_t child = ::fork();
      REQUIRE(child >= 0);
      if (child == 0) {
        CheckpointStore store({test.folder.path(), 3, 0}, [&](const std::string& line) {
          if (line.starts_with("saved") && ::write(ends[1], "s", 1) < 0) ::_exit(1);
        });
        FakeState state(scenario.seed);
        const FaultScope scope(concat(site, ":", k, ":kill"));
        store.save(fake_header(scenario.step), state.visitable());
        ::_exit(1);
      }
      ::close(ends[1]);
      char letter;
      const bool is_saved = ::read(ends[0], &letter, 1) == 1;
      ::close(ends[0]);
      int status = 0;
      REQUIRE(::waitpid(child, &status, 0) == child);
      REQUIRE(WIFSIGNALED(status));
      test.check_survival(is_saved);
    });
}
