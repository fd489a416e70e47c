#include "train/report/run_folder.h"

#include <doctest/doctest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <optional>

#include "core/system/fault.h"
#include "core/system/folder.h"
#include "tests/support/temporary_folder.h"

using namespace smoe;

namespace {

std::string refusal(const std::string& path, const std::string& resume) {
  return message_of([&] { RunFolder(path, resume); });
}

}  // namespace

TEST_CASE("a new run creates its folder and the parent folders") {
  const TemporaryFolder folder;
  RunFolder run(folder / "runs/tiny", "auto");
  CHECK(kind_of(folder / "runs/tiny") == PathKind::folder);
  CHECK(run.metrics_path() == folder / "runs/tiny/metrics.jsonl");
  run.write_config("a: 1\n");
  CHECK(read_file(folder / "runs/tiny/config.yaml", 100) == "a: 1\n");
}

TEST_CASE("an existing run is resumed, never overwritten") {
  const TemporaryFolder folder;
  const std::string path = folder / "tiny";
  for (const std::string trace : {"metrics.jsonl", "checkpoints/step-00000010"}) {
    RunFolder(path, "none").write_config("a: 1\n");
    CHECK(refusal(path, "none") == "no error");  // it is still empty
    if (trace == "metrics.jsonl") {
      overwrite(path + "/" + trace, "{}\n");
    } else {
      make_folders(path + "/" + trace);
    }
    CHECK(refusal(path, "auto") == "no error");
    CHECK(refusal(path, "none").find("would overwrite; resume it, remove the folder, or") !=
          std::string::npos);
    make_folders(path + "/checkpoints/step-00000020");
    make_folders(folder / "other/checkpoints/step-00000020");
    CHECK(refusal(path, path + "/../tiny/checkpoints/step-00000020") == "no error");
    CHECK(refusal(path, folder / "other/checkpoints/step-00000020").find("does not belong to") !=
          std::string::npos);
    remove_folder(path);
  }
}

TEST_CASE("a tokenizer that an earlier start left is removed or refused, never used") {
  const TemporaryFolder folder;
  RunFolder run(folder / "tiny", "auto");
  const ByteTokenizer tokenizer;
  const std::string own = run.path() + "/tokenizer.json", stale = run.path() + "/tokenizer.model";
  CHECK(run.tokenizer_path().empty());
  overwrite(stale, "of an earlier start");
  run.write_tokenizer(tokenizer);
  CHECK(kind_of(stale) == PathKind::none);
  CHECK(run.tokenizer_path() == own);
  CHECK(run.tokenizer_path(tokenizer.digest()) == own);
  // In folders written by earlier versions both may exist.
  overwrite(stale, "of an earlier start");
  CHECK(run.tokenizer_path(tokenizer.digest()) == own);
  CHECK(message_of([&] { run.tokenizer_path(); }).find("has a tokenizer.model and a") !=
        std::string::npos);
  remove_file(own);
  CHECK(message_of([&] { run.tokenizer_path(tokenizer.digest()); }) ==
        stale + ": is not the tokenizer that the model was trained with; restore that one");
}

TEST_CASE("a created folder in which no run began is removed, an existing one is not") {
  const TemporaryFolder folder;
  { const RunFolder run(folder / "runs/tiny", "auto"); }
  CHECK(kind_of(folder / "runs/tiny") == PathKind::none);
  make_folders(folder / "runs/own");
  { const RunFolder run(folder / "runs/own", "auto"); }
  CHECK(kind_of(folder / "runs/own") == PathKind::folder);
  RunFolder(folder / "runs/tiny", "auto").write_config("a: 1\n");
  { const RunFolder run(folder / "runs/tiny", "auto"); }
  CHECK(kind_of(folder / "runs/tiny/config.yaml") == PathKind::file);
}

TEST_CASE("a new run may start from another run's checkpoint") {
  const TemporaryFolder folder;
  make_folders(folder / "old/checkpoints/step-00000020");
  CHECK(refusal(folder / "new", folder / "old/checkpoints/step-00000020") == "no error");
}

TEST_CASE("only one process at a time writes to a run") {
  const TemporaryFolder folder;
  const std::string path = folder / "tiny";
  std::optional<RunFolder> run(std::in_place, path, "auto");
  CHECK(refusal(path, "auto") == path + ": process " + std::to_string(::getpid()) +
                                     " writes this run; wait for it, or give the run another name");
  run.reset();
  CHECK(refusal(path, "auto") == "no error");

  // A process that dies releases its lock.
  const pid_t child = ::fork();
  REQUIRE(child >= 0);
  if (child == 0) {
    const RunFolder held(path, "auto");
    ::_exit(0);
  }
  int status = -1;
  REQUIRE(::waitpid(child, &status, 0) == child);
  CHECK(status == 0);
  CHECK(refusal(path, "auto") == "no error");
}

TEST_CASE("a file system without locks or folder syncs gives a warning for each") {
  const TemporaryFolder folder;
  const FaultScope scope("lock:1+:ENOSYS,fsync:1+:EINVAL");
  const RunFolder run(folder / "tiny", "auto");
  REQUIRE(run.warnings().size() == 2);
  CHECK(run.warnings()[0].find("does not support locks") != std::string::npos);
  CHECK(run.warnings()[1].find("cannot sync folders") != std::string::npos);
}

TEST_CASE("the lock of a run is not opened through a link") {
  const TemporaryFolder folder;
  make_folders(folder / "tiny");
  overwrite(folder / "precious", "text");
  REQUIRE(::symlink("../precious", (folder / "tiny/run.lock").c_str()) == 0);
  CHECK(refusal(folder / "tiny", "auto").find("run.lock: is a link") != std::string::npos);
  CHECK(read_file(folder / "precious", 100) == "text");
}

TEST_CASE("whether another process writes a run is known without touching it") {
  const TemporaryFolder folder;
  const std::string path = folder / "tiny";
  CHECK(message_of([&] { check_not_written(path); }) == "no error");
  CHECK(kind_of(path) == PathKind::none);
  const RunFolder run(path, "auto");
  CHECK(message_of([&] { check_not_written(path); }) == refusal(path, "auto"));
}

TEST_CASE("the commands in README.txt can be pasted into a shell") {
  const TemporaryFolder folder;
  RunFolder run(folder / "my run", "auto");
  run.write_config("a: 1\n");
  run.write_readme();
  const std::string text = read_file(folder / "my run/README.txt", 1 << 16);
  CHECK(text.find("smoe generate '" + (folder / "my run") + "' --prompt") != std::string::npos);
  CHECK(text.find("smoe train '" + (folder / "my run") + "/config.yaml'") != std::string::npos);
}
