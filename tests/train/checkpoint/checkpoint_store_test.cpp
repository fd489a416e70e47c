#include "train/checkpoint/checkpoint_store.h"

#include <doctest/doctest.h>
#include <sys/resource.h>

#include <csignal>
#include <random>

#include "core/system/fault.h"
#include "core/system/folder.h"
#include "tests/support/temporary_folder.h"
#include "tests/train/checkpoint/fake_state.h"

using namespace smoe;

namespace {

// A store in its own temporary folder that records its log.
struct TestStore {
  explicit TestStore(std::int64_t keep = 2, std::int64_t keep_every = 0)
      : store({folder / "checkpoints", keep, keep_every},
              [this](const std::string& line) { log += line + "\n"; }) {}

  std::string save(std::int64_t step) { return save(step, static_cast<std::uint64_t>(step)); }
  std::string save(std::int64_t step, std::uint64_t seed) {
    FakeState state(seed);
    return store.save(fake_header(step), state.visitable());
  }
  std::string path(const std::string& name) const { return folder / ("checkpoints/" + name); }
  std::string names() const {
    std::string text;
    for (const FolderEntry& entry : list_folder(folder / "checkpoints")) text += entry.name + " ";
    return text;
  }
  std::optional<std::int64_t> resume(FakeState& state, const std::string& from = "auto") {
    return store.resume(from, fake_header(0), state.visitable());
  }
  // Resumes and returns the step whose state was loaded.
  std::int64_t resumed_step() {
    FakeState state(999);
    const auto step = resume(state);
    CHECK(state.bits() == FakeState(step ? *step : 999).bits());
    return step ? *step : -1;
  }
  bool logged(const std::string& part) const { return log.find(part) != std::string::npos; }

  TemporaryFolder folder;
  std::string log;
  CheckpointStore store;
};

void flip_bit(const std::string& path, std::uint64_t random) {
  std::string bytes = read_file(path, 1 << 20);
  bytes[random % bytes.size()] ^= static_cast<char>(1 << random % 8);
  overwrite(path, bytes);
}

// RAII: no file can grow beyond `bytes`; writes fail as on a full disk.
class FileSizeLimit {
 public:
  explicit FileSizeLimit(std::uint64_t bytes) : former_handler_(std::signal(SIGXFSZ, SIG_IGN)) {
    ::getrlimit(RLIMIT_FSIZE, &former_limit_);
    rlimit limit = former_limit_;
    limit.rlim_cur = bytes;
    ::setrlimit(RLIMIT_FSIZE, &limit);
  }
  ~FileSizeLimit() {
    ::setrlimit(RLIMIT_FSIZE, &former_limit_);
    std::signal(SIGXFSZ, former_handler_);
  }

 private:
  rlimit former_limit_;
  void (*former_handler_)(int);
};

struct Interruption : Error {
  using Error::Error;
};

}  // namespace

TEST_CASE("a new run finds no checkpoint, a later run the newest one") {
  TestStore test;
  CHECK(test.resumed_step() == -1);
  CHECK(test.save(10) == test.path("step-00000010"));
  CHECK(test.log == "saved " + test.path("step-00000010") + "\n");
  test.save(20);
  CHECK(test.resumed_step() == 20);
  CHECK(test.logged("resumed from " + test.path("step-00000020")));
}

TEST_CASE("none starts a new run, and a path selects a checkpoint") {
  TestStore test;
  test.save(10);
  test.save(20);
  FakeState state(999);
  CHECK(!test.resume(state, "none"));
  CHECK(state.bits() == FakeState(999).bits());
  CHECK(test.resume(state, test.path("step-00000010")) == 10);
  CHECK(state.bits() == FakeState(10).bits());
  flip_bit(test.path("step-00000010/shard-00000.bin"), 123);
  const std::string message = message_of([&] { test.resume(state, test.path("step-00000010")); });
  CHECK(message.find("step-00000010/shard-00000.bin: tensor") != std::string::npos);
  CHECK_THROWS_AS(test.resume(state, test.folder / "elsewhere"), UsageError);
}

TEST_CASE(
    "the highest step in a name is selected, whatever the file times; other names are ignored") {
  TestStore test(5);
  for (const std::int64_t step : {9, 100'000'001, 30}) {
    if (step != 30) test.save(step);
  }
  make_folders(test.path("step-99"));
  make_folders(test.path("step-00000099x"));
  make_folders(test.path("step--0000009"));
  make_folders(test.path("step-"));
  make_folders(test.path("notes"));
  CHECK(test.resumed_step() == 100'000'001);
  CHECK(!test.logged("damaged"));
}

TEST_CASE("a damaged checkpoint is logged and skipped") {
  std::mt19937_64 random(7);
  for (const std::string file : {"manifest.json", "shard-00000.bin"}) {
    for (int i = 0; i < 20; ++i) {
      TestStore test;
      test.save(10);
      test.save(20);
      const std::string path = test.path("step-00000020/" + file);
      if (i % 2) {
        flip_bit(path, random());
      } else {
        const std::string bytes = read_file(path, 1 << 20);
        overwrite(path, std::string_view(bytes).substr(0, random() % bytes.size()));
      }
      CHECK(test.resumed_step() == 10);
      CHECK(test.logged("passing over a damaged checkpoint: " + path));
    }
  }
}

TEST_CASE("a checkpoint with the name of another step counts as damaged") {
  TestStore test;
  test.save(10);
  test.save(20);
  rename_path(test.path("step-00000020"), test.path("step-00000030"));
  CHECK(test.resumed_step() == 10);
  CHECK(test.logged("must have the step in its name; got step 20"));
}

TEST_CASE("the run does not silently start again when all checkpoints are damaged") {
  TestStore test;
  test.save(10);
  test.save(20);
  remove_file(test.path("step-00000010/manifest.json"));
  remove_file(test.path("step-00000020/manifest.json"));
  FakeState state(999);
  CHECK(message_of([&] { test.resume(state); }).find("all 2 checkpoints are damaged") !=
        std::string::npos);
}

TEST_CASE("another config or token set is refused, with both digests") {
  TestStore test;
  test.save(10);
  FakeState state(999);
  CheckpointHeader expected = fake_header(0);
  expected.config = {7, 7};
  const auto refusal = [&] {
    return message_of([&] { test.store.resume("auto", expected, state.visitable()); });
  };
  std::string message = refusal();
  CHECK(message.find("config digest must be " + expected.config.hex()) != std::string::npos);
  CHECK(message.find("got " + fake_header(0).config.hex()) != std::string::npos);
  expected = fake_header(0);
  expected.data = {7, 7};
  message = refusal();
  CHECK(message.find("data digest must be " + expected.data.hex()) != std::string::npos);
  CHECK(message.find("got " + fake_header(0).data.hex()) != std::string::npos);
  CHECK(state.bits() == FakeState(999).bits());
}

TEST_CASE("the newest checkpoints and those at multiples of keep_every are kept") {
  TestStore test(2, 30);
  for (std::int64_t step = 10; step <= 100; step += 10) test.save(step);
  CHECK(test.names() == "step-00000030 step-00000060 step-00000090 step-00000100 ");
  CHECK_THROWS_AS(CheckpointStore({"x", 0, 0}, {}), UsageError);
  CHECK_THROWS_AS(CheckpointStore({"x", 2, -1}, {}), UsageError);
}

TEST_CASE("a run that went back replaces the checkpoints of later steps") {
  TestStore test(3);
  for (const std::int64_t step : {10, 20, 30}) test.save(step);
  test.save(20, 77);
  CHECK(test.names() == "step-00000010 step-00000020 ");
  CHECK(test.logged("removing " + test.path("step-00000030")));
  FakeState state(999);
  CHECK(test.resume(state) == 20);
  CHECK(state.bits() == FakeState(77).bits());
}

TEST_CASE("a process that dies between the two renames of a replacement loses nothing") {
  TestStore test;
  test.save(10);
  test.save(20);
  rename_path(test.path("step-00000020"), test.path("step-00000020.replaced"));
  CHECK(test.resumed_step() == 20);
  test.save(30);
  CHECK(test.names() == "step-00000010 step-00000030 ");
}

TEST_CASE("unfinished folders are ignored by a resume and removed by the next save") {
  TestStore test;
  test.save(10);
  FakeState state(20);
  write_checkpoint(test.path(".tmp-step-00000020"), fake_header(20), state.visitable());
  write_checkpoint(test.path(".tmp-removed-step-00000005"), fake_header(5), state.visitable());
  CHECK(test.resumed_step() == 10);
  test.save(20);
  CHECK(test.names() == "step-00000010 step-00000020 ");
}

TEST_CASE("a save that fails at any tensor leaves the old checkpoints and nothing else") {
  TestStore test;
  test.save(10);
  FakeState state(20);
  const auto num_visits = static_cast<int>(state.tensors.size());
  for (int limit = 0; limit < num_visits; ++limit) {
    // Passes `limit` tensors, then fails as a device or disk would.
    const VisitState visit = [&](StateVisitor& visitor) {
      for (int i = 0; i < limit; ++i) visitor.tensor(concat("t", i), state.tensors[i]);
      throw Interruption("enough");
    };
    CHECK_THROWS_AS(test.store.save(fake_header(20), visit), Interruption);
    CHECK(test.names() == "step-00000010 ");
  }
  CHECK(!test.logged("step-00000020"));
  CHECK(test.resumed_step() == 10);
}

TEST_CASE("a full disk is reported with the path, and the old checkpoints stay") {
  TestStore test;
  test.save(10);
  FakeState large(20);
  std::vector<std::int64_t> numbers(100);
  const VisitState many_numbers = [&](StateVisitor& visitor) {
    for (std::size_t i = 0; i < numbers.size(); ++i) visitor.integer(concat("n", i), numbers[i]);
  };
  struct Case {
    VisitState visit;
    const char* file;
  };
  for (const Case& c :
       {Case{large.visitable(), "shard-00000.bin"}, Case{many_numbers, "manifest.json"}}) {
    for (const std::uint64_t limit : {0, 1, 500, 1000}) {
      CAPTURE(limit);
      std::string message;
      {
        const FileSizeLimit full(limit);
        message = message_of([&] { test.store.save(fake_header(20), c.visit); });
      }
      CHECK_MESSAGE(message.find(concat("write ", test.path(".tmp-step-00000020/"), c.file)) == 0,
                    message);
      CHECK(message.find("File too large") != std::string::npos);
      CHECK(test.names() == "step-00000010 ");
    }
  }
  CHECK(test.resumed_step() == 10);
  test.save(20);
  CHECK(test.resumed_step() == 20);
}

TEST_CASE("a slow rename is reported, and the checkpoint is saved") {
  TestStore test;
  test.save(10);
  CHECK(!test.logged("warning"));
  {
    const FaultScope scope("rename:1:slow");
    test.save(20);
  }
  CHECK(test.logged("s to rename a folder; saves are slow there\nsaved "));
  CHECK(test.resumed_step() == 20);
}

TEST_CASE("a damaged checkpoint is replaced when the run reaches its step again") {
  TestStore test;
  test.save(10);
  test.save(20);
  remove_file(test.path("step-00000020/manifest.json"));
  CHECK(test.resumed_step() == 10);
  test.save(20);
  CHECK(test.names() == "step-00000010 step-00000020 step-00000020.set-aside ");
  CHECK(test.logged("renamed to step-00000020.set-aside, never to be read or removed: "));
  CHECK(test.resumed_step() == 20);
}

TEST_CASE("a checkpoint of a later step is removed if it is intact, otherwise set aside") {
  TestStore test(9);
  for (const std::int64_t step : {10, 20, 30}) test.save(step);
  remove_file(test.path("step-00000030/shard-00000.bin"));
  FakeState state(15);
  CHECK(test.resume(state, test.path("step-00000010")) == 10);
  test.save(15);
  CHECK(test.names() == "step-00000010 step-00000015 step-00000030.set-aside ");
}

TEST_CASE("an error of the system while the newest checkpoint is read is not damage") {
  for (const char* site : {"open", "stat", "read", "list"}) {
    for (const char* error : {"EIO", "ESTALE", "EMFILE", "EACCES"}) {
      TestStore test;
      test.save(10);
      test.save(20);
      int refused = 0;
      for (int k = 1;; ++k) {
        CAPTURE(concat(site, " ", k, " ", error));
        FakeState state(999);
        const FaultScope scope(concat(site, ":", k, ":", error));
        std::optional<std::int64_t> step;
        const std::string message = message_of([&] { step = test.resume(state); });
        if (scope.calls(site) < k) break;
        CHECK((message == "no error" ? step == 20 : !test.logged("passing over")));
        refused += message != "no error";
      }
      CHECK(refused > 0);
      CHECK(test.names() == "step-00000010 step-00000020 ");
    }
  }
}

TEST_CASE("a checkpoint of a later format version is not damage") {
  TestStore test;
  test.save(10);
  test.save(20);
  const std::string path = test.path("step-00000020/manifest.json");
  std::string text = read_file(path, 1 << 20);
  const std::string version = "\"version\": 2";
  const std::size_t at = text.find(version);
  REQUIRE(at != std::string::npos);
  text.replace(at, version.size(), "\"version\": 3");
  text.resize(text.size() - manifest_seal({}).size());
  overwrite(path, text + manifest_seal(digest_of(text)));
  FakeState state(999);
  CHECK_THROWS_WITH_AS(
      test.resume(state),
      concat(path, ": has format version 3; this program reads versions up to 2").c_str(),
      SystemError);
  CHECK(!test.logged("passing over"));
}

TEST_CASE("leftovers of any kind are removed, and what cannot be removed stops no save") {
  TestStore test;
  test.save(10);
  overwrite(test.path(".tmp-a"), "a file");
  make_folders(test.path(".tmp-step-00000020/inner"));
  make_folders(test.path(".tmp-z"));
  {
    const FaultScope scope("unlink:1:EACCES,rmdir:1+:EACCES");
    test.save(20);
  }
  CHECK(test.logged(concat("remove ", test.path(".tmp-a"), ": Permission denied")));
  CHECK(kind_of(test.path("step-00000020/manifest.json")) == PathKind::file);
  for (const std::int64_t step : {30, 40}) {
    const FaultScope scope("rmdir:1+:EACCES");  // as where a file of the folder is open on NFS
    test.save(step);
  }
  test.save(50);
  CHECK(test.names() == "step-00000040 step-00000050 ");
}

TEST_CASE("a file with the name of a checkpoint is set aside") {
  TestStore test;
  test.save(10);
  overwrite(test.path("step-00000020"), "a file");
  CHECK(test.resumed_step() == 10);
  test.save(20);
  test.save(30);
  CHECK(test.names() == "step-00000020 step-00000020.set-aside step-00000030 ");
}

TEST_CASE("state with a repeated name is not saved") {
  TestStore test;
  test.save(10);
  std::int64_t n = 1;
  double x = 1;
  const std::string message = message_of([&] {
    test.store.save(fake_header(20), [&](StateVisitor& visitor) {
      visitor.integer("a", n);
      visitor.real("a", x);
    });
  });
  CHECK(message.find("a twice") != std::string::npos);
  CHECK(test.names() == "step-00000010 ");
}
