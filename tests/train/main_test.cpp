// Runs the program: exit codes and output streams.
#include <doctest/doctest.h>
#include <fcntl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <string>

#include "tests/support/temporary_folder.h"
#include "tests/train/run_smoe.h"
#include "tests/train/small_run.h"

using namespace smoe::test;

namespace {

void check_failure(const std::string& arguments, int exit_code, const std::string& message) {
  CAPTURE(arguments);
  const Outcome outcome = run_smoe(arguments + " 2>&1 >/dev/null");
  CHECK(outcome.exit_code == exit_code);
  CHECK(outcome.output == message + "\n");
}

TEST_CASE("requested output goes to standard output, with exit code 0") {
  const Outcome version = run_smoe("--version 2>/dev/null");
  CHECK(version.exit_code == 0);
  CHECK(version.output.starts_with("smoe 0."));
  CHECK(version.output.find("commit") != std::string::npos);
  CHECK(version.output.find("CUDA") != std::string::npos);
  const Outcome help = run_smoe("train --help 2>/dev/null");
  CHECK(help.exit_code == 0);
  CHECK(help.output.find("Examples:") != std::string::npos);
  const Outcome config = run_smoe("train configs/tiny.yaml --print-config optim.lr=1e-3 2>&1");
  CHECK(config.exit_code == 0);
  CHECK(config.output.starts_with("run:\n  name: \"tiny\""));
  CHECK(config.output.find("\n  lr: 0.001  # ") != std::string::npos);
}

TEST_CASE("init prints the shipped configurations") {
  CHECK(run_smoe("init").output == smoe::read_file("configs/tiny.yaml", 1 << 16));
  CHECK(run_smoe("init small").output == smoe::read_file("configs/small-8x.yaml", 1 << 16));
  CHECK(run_smoe("init 1.5b").output == smoe::read_file("configs/smoe-1.5b.yaml", 1 << 16));
  CHECK(run_smoe("init large 2> /dev/null").exit_code == 2);
}

TEST_CASE("invalid usage and configuration give one line and exit code 2") {
  check_failure("", 2, "smoe: a command is required; see smoe --help");
  check_failure("trian", 2, "smoe: unknown command trian; did you mean train?");
  check_failure("quantize", 2, "smoe: unknown command quantize; see smoe --help");
  check_failure("train", 2, "smoe train: CONFIG is required; see smoe train --help");
  check_failure("train configs/tiny.yaml --print-config optim.lrr=1", 2,
                "override 'optim.lrr=1': optim.lrr: unknown key; did you mean optim.lr?");
}

TEST_CASE("plan and inspect print their results and refuse invalid input") {
  const Outcome plan =
      run_smoe("plan configs/tiny.yaml model.vocab_size=257 data.path=none run.device=cpu 2>&1");
  CHECK(plan.exit_code == 0);
  CHECK(plan.output.starts_with("tiny: 3.48 M parameters, 1.09 M of them active; 4 layers of"));
  CHECK(plan.output.find("   on this CPU, at 70 % of the ") != std::string::npos);
  const Outcome json =
      run_smoe("plan configs/tiny.yaml model.vocab_size=257 data.path=none --json 2>&1");
  CHECK(json.exit_code == 0);
  CHECK(json.output.starts_with("{\n  \"run\": \"tiny\",\n"));
  check_failure("plan configs/tiny.yaml data.path=none", 2,
                "data.path: there is no none, from which model.vocab_size=0 is resolved; make it "
                "with `smoe prepare`, or set model.vocab_size");
  check_failure("inspect no/such.h5", 1, "open no/such.h5: No such file or directory");
  check_failure("train no/such.yaml --print-config", 2, "no/such.yaml: there is no such file");
  const Outcome config = run_smoe("inspect configs/tiny.yaml 2>&1");
  CHECK(config.exit_code == 0);
  CHECK(config.output.starts_with("configs/tiny.yaml: the configuration of run tiny\n"));
  check_failure(
      "inspect README.md", 2,
      "README.md: unknown kind of file; supported are configurations (*.yaml), token sets "
      "(*.h5), checkpoints (manifest.json or their folder), *.safetensors, and "
      "tokenizers (*.model, tokenizer.json)");
}

TEST_CASE("system errors give one line and exit code 1") {
  const Outcome full = run_smoe("train configs/tiny.yaml --print-config 2>&1 >/dev/full");
  CHECK(full.exit_code == 1);
  CHECK(full.output == "standard output: could not be written\n");
}

TEST_CASE("prepare, train, generate, eval and inspect work together") {
  const smoe::TemporaryFolder folder;
  std::string text;
  for (int i = 0; i < 2000; ++i) text += "a line of text, number " + std::to_string(i) + "\n";
  smoe::overwrite(folder / "text.txt", text);
  const std::string set = folder / "set.h5", in_folder = " run.dir=" + folder.path();
  CHECK(run_smoe("prepare --input " + folder.path() + "/text.txt --output " + set + " 2>&1")
            .exit_code == 0);
  const std::string train = "train configs/tiny.yaml data.path=" + set + in_folder +
                            " train.steps=4 schedule.warmup_steps=1 train.seq_len=32"
                            " train.eval_every=2 train.eval_batches=2 log.every=1 2>&1";
  const Outcome first = run_smoe(train);
  CAPTURE(first.output);
  CHECK(first.exit_code == 0);
  CHECK(first.output.find("step 4/4  validation loss") != std::string::npos);
  const Outcome again = run_smoe(train);
  CHECK(again.exit_code == 0);
  CHECK(again.output.find("resumed from ") != std::string::npos);
  const Outcome written =
      run_smoe("generate " + folder.path() + "/tiny --prompt 'a line' --max-tokens 20 2>&1");
  CHECK(written.exit_code == 0);
  CHECK(written.output.starts_with("a line"));
  const std::string from_input = "generate " + folder.path() + "/tiny --prompt - --max-tokens 3 ";
  smoe::overwrite(folder / "prompt.txt", "two\nlines\n");
  const Outcome piped = run_smoe(from_input + "2>/dev/null <" + (folder / "prompt.txt"));
  CHECK(piped.output.starts_with("two\nlines"));
  CHECK(
      run_smoe(from_input + "</dev/null 2>&1 >/dev/null").output.starts_with("prompt 1 token in "));
  check_failure("generate " + folder.path() + "/tiny --prompt " + std::string(32, 'x'), 2,
                "--prompt: must fit the context of 32 tokens, one of which begins the document; "
                "got 32 tokens; shorten it or increase the context");
  const Outcome lines = run_smoe("eval " + folder.path() + "/tiny 2>/dev/null");
  CHECK(lines.exit_code == 0);
  CHECK(lines.output.find(", step 4, on all validation text of " + set) != std::string::npos);
  const Outcome json = run_smoe("eval " + folder.path() + "/tiny --batches 2 --json 2>/dev/null");
  CHECK(json.exit_code == 0);
  // Equal to the last validation of the run, which used the same two batches.
  const std::size_t at = first.output.find("bits per byte", first.output.find("step 4/4  valid"));
  CHECK(json.output.find("\"bits_per_byte\":" + first.output.substr(at + 14, 4)) !=
        std::string::npos);
  check_failure("eval " + folder.path() + "/tiny --data no.h5", 2,
                "--data: there is no no.h5; make it with `smoe prepare`");
  check_failure("eval " + folder.path() + "/tiny --batches=-1", 2,
                "--batches: must be 0 or more; got -1");
  const Outcome run = run_smoe("inspect " + set + " " + folder.path() + "/tiny --verify 2>&1");
  CHECK(run.exit_code == 0);
  CHECK(run.output.starts_with(set + ": token set, "));
  CHECK(run.output.find("\n\n" + folder.path() + "/tiny: the folder of run tiny\n") !=
        std::string::npos);
  check_failure("generate " + folder.path(), 2,
                folder.path() + ": must be the folder of a run, or of a checkpoint in one");
  check_failure("train configs/tiny.yaml data.path=" + set + in_folder + " optim.lr=1", 2,
                folder.path() +
                    "/tiny: cannot resume with train.steps=600, it was trained with 4; "
                    "train.seq_len=256, it was trained with 32; optim.lr=1, it was trained with "
                    "0.003; schedule.warmup_steps=50, it was trained with 1; train.seq_len cannot "
                    "change in a run: restore it, or choose another run.name");
}

TEST_CASE("a Hugging Face model can be imported and exported") {
  const smoe::TemporaryFolder folder;
  const std::string run = folder / "run", model = folder / "model";
  const Outcome imported = run_smoe("import tests/oracle/mixtral " + run + " 2>&1");
  CHECK(imported.exit_code == 0);
  CHECK(imported.output.starts_with(run + ": all 69 tensors, 289 KiB\n"));
  CHECK(imported.output.find("model.router.balance_loss=0.002, of a loss that is a mean over "
                             "routers;\n") != std::string::npos);
  const Outcome exported = run_smoe("export " + run + " " + model + " 2>&1");
  CHECK(exported.exit_code == 0);
  CHECK(exported.output.find("69 tensors, 289 KiB in 1 file\n") != std::string::npos);
  check_failure("generate " + run, 2,
                run +
                    ": has no tokenizer, which generating text needs; its model was imported "
                    "without one");
}

TEST_CASE("a file size limit gives an error that names the file") {
  const smoe::TemporaryFolder folder;
  smoe::overwrite(folder / "text.txt", std::string(100'000, 'x'));
  const std::string set = folder / "set.h5";
  const Outcome outcome = run_smoe_after(
      "ulimit -f 40;", "prepare --input " + (folder / "text.txt") + " --output " + set + " 2>&1");
  CHECK(outcome.exit_code == 1);
  CHECK(outcome.output.find("write " + set + ".tmp-") != std::string::npos);
  CHECK(outcome.output.find("File too large") != std::string::npos);
}

#ifndef __SANITIZE_ADDRESS__  // whose runtime needs the streams
TEST_CASE("closed standard streams are not replaced by files") {
  const smoe::TemporaryFolder folder;
  smoe::overwrite(folder / "text.txt", std::string(1000, 'x'));
  const std::string prepare = "prepare --input " + (folder / "text.txt") + " --output ";
  CHECK(run_smoe(prepare + (folder / "a.h5") + " 2>&1").exit_code == 0);
  CHECK(run_smoe(prepare + (folder / "b.h5") + " <&- >&- 2>&-").exit_code == 0);
  CHECK(smoe::read_file(folder / "a.h5", 1 << 20) == smoe::read_file(folder / "b.h5", 1 << 20));
}
#endif

TEST_CASE("output to a pipe that does not block is complete") {
  int ends[2];
  REQUIRE(::pipe2(ends, O_CLOEXEC) == 0);
  REQUIRE(::fcntl(ends[1], F_SETPIPE_SZ, 4096) == 4096);
  REQUIRE(::fcntl(ends[1], F_SETFL, O_NONBLOCK) == 0);
  const pid_t child = ::fork();
  REQUIRE(child >= 0);
  if (child == 0) {
    ::dup2(ends[1], STDOUT_FILENO);
    ::execl(smoe_program().c_str(), "smoe", "train", "configs/tiny.yaml", "--print-config",
            nullptr);
    ::_exit(127);
  }
  CHECK((::fcntl(ends[1], F_GETFL) & O_NONBLOCK) != 0);  // other users of the pipe keep their mode
  ::close(ends[1]);
  ::usleep(300'000);  // the pipe is full by now
  std::string text;
  for (char c; ::read(ends[0], &c, 1) == 1;) text += c;
  ::close(ends[0]);
  int status = 0;
  REQUIRE(::waitpid(child, &status, 0) == child);
  CHECK(status == 0);
  CHECK(text.size() > 4096);
  CHECK(text.ends_with("\n"));
}

#ifndef __SANITIZE_ADDRESS__  // which reserves more address space than any of these limits
TEST_CASE("every command ends where address space is limited") {
  for (const int kib : {700'000, 800'000, 900'000, 1'000'000, 2'000'000}) {
    const Outcome version =
        run_smoe_after("ulimit -v " + std::to_string(kib) + "; timeout 20", "--version 2>&1");
    CAPTURE(kib);
    CAPTURE(version.output);
    // CUDA's libraries do not fit under the smaller limits; the loader says so.
    const bool was_loaded =
        version.output.find("error while loading shared libraries") == std::string::npos;
    CHECK(version.exit_code == (was_loaded ? 0 : 127));
  }
}

TEST_CASE("a GEMM for which OpenBLAS gets no memory is an error, not an endless wait") {
  const smoe::test::SmallRun run;
  smoe::overwrite(run.folder / "small.yaml", smoe::to_yaml(run.config));
  const std::string command = "train " + (run.folder / "small.yaml") + " run.threads=2 2>&1";
  int num_out_of_memory = 0;
  for (int kib = 300'000; kib <= 900'000; kib += 100'000) {
    const Outcome outcome =
        run_smoe_after("OPENBLAS_NUM_THREADS=1; export OPENBLAS_NUM_THREADS; ulimit -v " +
                           std::to_string(kib) + "; timeout 30",
                       command);
    CAPTURE(kib);
    CAPTURE(outcome.output);
    if (outcome.exit_code == 127) continue;  // libraries that do not fit
    CHECK((outcome.exit_code == 0 || outcome.exit_code == 1));
    num_out_of_memory += outcome.output.ends_with("smoe: out of memory\n");
  }
  CHECK(num_out_of_memory > 0);
}
#endif

TEST_CASE("generate shows control characters on a terminal and writes them to a pipe") {
  smoe::test::SmallRun run;
  run.config.train.steps = 1;
  run.config.schedule.warmup_steps = 0;
  smoe::overwrite(run.folder / "small.yaml", smoe::to_yaml(run.config));
  REQUIRE(run_smoe("train " + (run.folder / "small.yaml") + " > /dev/null").exit_code == 0);
  const std::string generate = "generate " + run.config.run.folder() + " --max-tokens 0 --prompt ";
  smoe::overwrite(run.folder / "prompt", "\tred \x1b[31m");
  const std::string from_file = "- < " + (run.folder / "prompt");
  CHECK(run_smoe(generate + from_file + " 2> /dev/null").output == "\tred \x1b[31m\n");
  const std::string on_terminal = run.folder / "on_terminal";
  smoe::overwrite(run.folder / "in_terminal.sh",
                  "'" + smoe::test::smoe_program() + "' " + generate + from_file);
  REQUIRE(::system(("script -qec 'sh " + (run.folder / "in_terminal.sh") + "' /dev/null > " +
                    on_terminal + " < /dev/null")
                       .c_str()) == 0);
  const std::string shown = smoe::read_file(on_terminal, 1 << 16);
  CHECK(shown.find("\tred \\x1b[31m") != std::string::npos);
  CHECK(shown.find('\x1b') == std::string::npos);
}

TEST_CASE("no control character of a file reaches the terminal") {
  const smoe::TemporaryFolder folder;
  const std::string escape = "\x1b]0;title\x07";
  const std::string tensor = R"({"dtype":"F32","shape":[1],"data_offsets":[0,4]})";
  const auto write_safetensors = [&](const std::string& name, const std::string& header) {
    std::string bytes(8, '\0');
    bytes[0] = static_cast<char>(header.size());
    smoe::overwrite(folder / name, bytes + header + std::string(4, '\0'));
  };
  const std::string in_json = R"("\u001b]0;title\u0007")";
  write_safetensors("meta.safetensors",
                    "{\"__metadata__\":{" + in_json + ":\"v\"},\"a\":" + tensor + "}");
  write_safetensors("name.safetensors", "{" + in_json + ":" + tensor + "}");
  smoe::overwrite(folder / "set.h5",
                  "smoe token set, version " + escape + "\n" + std::string(600, '\0'));
  smoe::overwrite(folder / "c.yaml",
                  "\"\xc2\x9b"
                  "31m\": 1\n");
  for (const char* name : {"meta.safetensors", "name.safetensors", "set.h5", "c.yaml", "\x1b"}) {
    const Outcome outcome = run_smoe("inspect '" + (folder / name) + "' 2>&1");
    CAPTURE(outcome.output);
    CHECK(!outcome.output.empty());
    CHECK(outcome.output.find('\x1b') == std::string::npos);
    CHECK(outcome.output.find("\xc2\x9b") == std::string::npos);
  }
}

}  // namespace
