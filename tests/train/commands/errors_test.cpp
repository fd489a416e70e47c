// Every command, given missing, invalid, damaged, unreadable or enormous input, prints one line
// that names the place, the rule and a remedy, exits with the right code, and leaves every file and
// folder unchanged. A new command adds its rows to kRows; "@" stands for the folder that
// fill_folder() fills with the files that the rows use.
#include <doctest/doctest.h>

#include <map>
#include <vector>

#include "core/system/digest.h"
#include "core/system/folder.h"
#include "tests/support/temporary_folder.h"
#include "tests/train/run_smoe.h"

using namespace smoe;
using namespace smoe::test;

namespace {

struct Row {
  const char* arguments;
  int exit_code;        // 1: the system refused; 2: the user's input is wrong
  const char* message;  // the last line, where "*" matches anything
};

const Row kRows[] = {
    // ---- the command line ----
    {"", 2, "smoe: a command is required; see smoe --help"},
    {"tarin", 2, "smoe: unknown command tarin; did you mean train?"},
    {"--nosuch", 2, "smoe: The following argument was not expected: --nosuch; see smoe --help"},

    // ---- prepare ----
    {"prepare --input @/text.txt", 2,
     "smoe prepare: --output is required; see smoe prepare --help"},
    {"prepare --input @/none.txt --output @/o.h5", 2, "@/none.txt: no such file or folder"},
    {"prepare --input @/empty.folder --output @/o.h5", 2, "@/empty.folder: no files in it"},
    {"prepare --input @/empty --output @/o.h5", 2, "@/empty: no text in 1 file*"},
    {"prepare --input @/zeros --output @/o.h5", 2, "@/zeros: is not text: it contains zero bytes*"},
    {"prepare --input @/cut.gz --output @/o.h5", 2,
     "@/cut.gz: truncated: its gzip data end at byte 60*"},
    {"prepare --input @/false.gz --output @/o.h5", 2,
     "@/false.gz: damaged gzip data before byte *"},
    {"prepare --input /dev/full --output @/o.h5", 1, "open /dev/full: is not a regular file"},
    {"prepare --input @/text.txt --output @/set.h5", 2,
     "@/set.h5: exists already; --force replaces it"},
    {"prepare --input @/text.txt --output @/runs --force", 2,
     "@/runs: cannot be written: it is not a file"},
    {"prepare --input @/text.txt --output @/text.txt/o.h5", 1, "make folder @/text.txt: *"},
    {"prepare --input @/text.txt --output /proc/o.h5", 1,
     "open /proc/o.h5.tmp*: No such file or directory"},
    {"prepare --input @/text.txt --output @/o.h5 --validation-fraction 2", 2,
     "--validation-fraction: must be in [0, 1); got 2"},
    {"prepare --input @/text.txt --output @/o.h5 --validation-fraction x", 2,
     "smoe prepare: Could not convert: --validation-fraction = x; see smoe prepare --help"},

    // ---- train: the configuration ----
    {"train", 2, "smoe train: CONFIG is required; see smoe train --help"},
    {"train @/none.yaml", 2, "@/none.yaml: there is no such file"},
    {"train @/runs", 2, "@/runs: must be a YAML file; got a folder"},
    {"train @/empty", 2,
     "@/empty: run.name: required; must be a folder's name without '/'; also required: *"},
    {"train @/zeros", 2, "@/zeros:1: must not contain control characters; got the byte 0x00"},
    {"train @/huge", 2, "@/huge: at most 1048576 bytes are read; got 3298534883328"},
    {"train @/twice.yaml", 2, "@/twice.yaml:5: train: given twice; first in line 4"},
    {"train @/set.h5", 2, "@/set.h5: must be a YAML file; got a token set"},
    {"train @/run.yaml optim.lrr=1", 2,
     "override 'optim.lrr=1': optim.lrr: unknown key; did you mean optim.lr?"},
    {"train @/run.yaml optim.lr", 2, "override 'optim.lr': must be key.path=value"},
    {"train @/run.yaml train.steps=99999999999", 2,
     "override 'train.steps=99999999999': train.steps: must be from 1 to 10^9; got 99999999999"},

    // ---- train: token sets ----
    {"train @/run.yaml run.name=x data.path=@/none.h5", 2,
     "data.path: there is no @/none.h5; make it with `smoe prepare`"},
    {"train @/run.yaml run.name=x data.path=@/runs", 1, "open @/runs: is a folder, not a file"},
    {"train @/run.yaml run.name=x data.path=/dev/null", 1, "open /dev/null: is not a regular file"},
    {"train @/run.yaml run.name=x data.path=@/empty", 2,
     "@/empty: not a token set; `smoe prepare` creates one from text"},
    {"train @/run.yaml run.name=x data.path=@/huge", 2,
     "@/huge: not a token set; `smoe prepare` creates one from text"},
    {"train @/run.yaml run.name=x data.path=@/cut.h5", 2,
     "@/cut.h5: truncated: it has 3000 bytes; * were written"},
    {"train @/run.yaml run.name=x data.validation=@/cut.h5", 2,
     "@/cut.h5: truncated: it has 3000 bytes; * were written"},
    {"train @/run.yaml run.name=x model.vocab_size=10", 2,
     "@/set.h5: its vocabulary of 257 tokens does not fit model.vocab_size; got 10"},
    {"train @/run.yaml run.name=x train.seq_len=1000000", 2,
     "training data: seq_len must be below the * training tokens of @/set.h5; got 1000000"},

    // ---- train: the run's folder, checkpoints, memory ----
    {"train @/run.yaml run.name=x run.dir=@/text.txt", 2,
     "@/text.txt: must be a folder to contain runs; it is a file"},
    {"train @/run.yaml run.name=x run.dir=/proc", 1,
     "make folder /proc/x: No such file or directory"},
    {"train @/run.yaml checkpoint.resume=none", 2,
     "@/runs/r: contains a run that a new run would overwrite; resume it, "
     "*"},
    {"train @/run.yaml run.name=x checkpoint.resume=@/none", 2,
     "@/none: must be a checkpoint folder"},
    {"train @/run.yaml run.name=x checkpoint.resume=@/text.txt", 2,
     "@/text.txt: must be a checkpoint folder"},
    {"train @/run.yaml optim.lr=0.5", 2,
     "@/runs/r: cannot resume with optim.lr=0.5, it was trained with 3e-04; to change it from here "
     "on, add --change optim.lr; otherwise restore it, or choose another run.name"},
    {"train @/run.yaml model.top_k=2 optim.lr=0.5 --change optim.lr", 2,
     "@/runs/r: cannot resume with model.top_k=2, it was trained with 1; optim.lr=0.5, it was "
     "trained with 3e-04; model.top_k cannot change in a run: restore it, or choose another "
     "run.name"},
    {"train @/run.yaml --change optim.lrr", 2,
     "change: optim.lrr: unknown key; did you mean optim.lr?"},
    {"train @/run.yaml --change optim.lr,", 2, "change: : unknown key*"},
    {"train @/run.yaml run.name=damaged train.steps=3", 2, "@/runs/damaged: cannot resume with *"},
#ifndef __SANITIZE_ADDRESS__  // whose allocator prints more than one line when out of memory
    {"train @/run.yaml run.name=x model.d_model=1000000000", 1,
     "memory: out of memory: * bytes of parameters*"},
#endif

    // ---- plan ----
    {"plan", 2, "smoe plan: CONFIG is required; see smoe plan --help"},
    {"plan @/none.yaml", 2, "@/none.yaml: there is no such file"},
    {"plan @/runs", 2, "@/runs: must be a YAML file; got a folder"},
    {"plan @/huge", 2, "@/huge: at most 1048576 bytes are read; got 3298534883328"},
    {"plan @/run.yaml data.path=@/cut.h5", 2, "@/cut.h5: truncated: it has 3000 bytes; *"},
    {"plan @/run.yaml data.path=@/none.h5", 2, "data.path: there is no @/none.h5, *"},
    {"plan @/run.yaml model.num_experts=1000000000", 2,
     "override 'model.num_experts=1000000000': model.num_experts: must be at most 1000000, *"},
    {"plan @/run.yaml model.d_model=1000000000 model.d_expert=1000000000", 2,
     "override 'model.d_model=1000000000': model.d_model: must be small enough for a model of at "
     "most 10^15 parameters; got 1000000000"},

    // ---- eval ----
    {"eval", 2, "smoe eval: RUN is required; see smoe eval --help"},
    {"eval @/none", 2, "@/none: must be the folder of a run, or of a checkpoint in one"},
    {"eval @/runs/damaged", 2, "@/runs/damaged/checkpoints: all 1 checkpoints are damaged; *"},
    {"eval @/runs/r --data @/none.h5", 2,
     "--data: there is no @/none.h5; make it with `smoe prepare`"},
    {"eval @/runs/r --data @/runs", 1, "open @/runs: is a folder, not a file"},
    {"eval @/runs/r --data @/cut.h5", 2, "@/cut.h5: truncated: it has 3000 bytes; *"},
    {"eval @/runs/r --data @/huge", 2,
     "@/huge: not a token set; `smoe prepare` creates one from text"},
    {"eval @/runs/r --batches -1", 2, "--batches: must be 0 or more; got -1"},
    {"eval @/runs/r --seq-len 99999999999", 2,
     "--seq-len: must be below the * validation tokens of @/set.h5; got 99999999999"},

    // ---- export ----
    {"export @/runs/r", 2, "smoe export: FOLDER is required; see smoe export --help"},
    {"export @/none @/o", 2, "@/none: must be the folder of a run, or of a checkpoint in one"},
    {"export @/runs/damaged @/o", 2,
     "@/runs/damaged/checkpoints: all 1 checkpoints are damaged; *"},
    {"export @/runs/r @/hf", 2, "@/hf: exists; remove it or choose another name"},
    {"export @/runs/r @/text.txt", 2, "@/text.txt: exists; remove it or choose another name"},
    {"export @/runs/r /proc/o", 1, "make folder /proc/*: No such file or directory"},

    // ---- import ----
    {"import", 2, "smoe import: FOLDER is required; see smoe import --help"},
    {"import @/none @/o", 2,
     "@/none: must be the folder of a Hugging Face model; it has no config.json"},
    {"import @/text.txt @/o", 2,
     "@/text.txt: must be the folder of a Hugging Face model; it has no config.json"},
    {"import @/hf @/runs/r", 2, "@/runs/r: exists; remove it or choose another name"},
    {"import @/hf-cut @/o", 2, "@/hf-cut/model.safetensors: is incomplete: *; download it again"},
    {"import @/hf-long @/o", 2,
     "@/hf-long/model.safetensors: must end with its last tensor, at byte *; it has 3298534883328"},
    {"import @/hf-json @/o", 2,
     "@/hf-json/config.json: invalid JSON at byte 3, after its end: it is incomplete"},
    {"import @/hf-huge @/o", 2,
     "@/hf-huge/config.json: at most 4194304 bytes are read; got 3298534883328"},
    {"import @/hf-none @/o", 2, "@/hf-none: must hold model.safetensors or *"},

    // ---- train: initial weights ----
    {"train @/run.yaml run.name=x train.init_from=@/none", 2,
     "@/none: must be the folder of a run, or of a checkpoint in one"},
    {"train @/run.yaml run.name=x train.init_from=@/runs/damaged", 2,
     "@/runs/damaged/checkpoints: all 1 checkpoints are damaged; *"},
    {"train @/run.yaml run.name=x train.init_from=@/runs/r model.d_expert=4", 2,
     "@/runs/r/checkpoints/step-00000002: must match the state of this run; mismatched: *"},

    // ---- generate ----
    {"generate", 2, "smoe generate: RUN is required; see smoe generate --help"},
    {"generate @/none", 2, "@/none: must be the folder of a run, or of a checkpoint in one"},
    {"generate @/text.txt", 2,
     "@/text.txt: must be the folder of a run, or of a checkpoint in one"},
    {"generate @/runs", 2, "@/runs: must be the folder of a run, or of a checkpoint in one"},
    {"generate @/runs/damaged", 2,
     "@/runs/damaged/checkpoints: all 1 checkpoints are damaged; to start again, give the run "
     "another name"},
    {"generate @/runs/r --temperature -1", 2, "--temperature: must be 0 or more; got -1"},
    {"generate @/runs/r --seed -1", 2, "smoe generate: --seed: *; see smoe generate --help"},
    {"generate @/runs/r --top-p 2", 2, "--top-p: must be above 0 and at most 1; got 2"},
    {"generate @/runs/r --max-tokens x", 2,
     "smoe generate: Could not convert: --max-tokens = x; see smoe generate --help"},

    // ---- inspect ----
    {"inspect", 2, "smoe inspect: PATH is required; see smoe inspect --help"},
    {"inspect @/none", 1, "open @/none: No such file or directory"},
    {"inspect @/text.txt", 2, "@/text.txt: unknown kind of file; supported are *"},
    {"inspect @/empty", 2, "@/empty: unknown kind of file; supported are *"},
    {"inspect @/huge", 2, "@/huge: unknown kind of file; supported are *"},
    {"inspect @/cut.h5", 2, "@/cut.h5: truncated: it has 3000 bytes; *"},
    {"inspect @/hf-cut", 2, "@/hf-cut/model.safetensors: is incomplete: *; download it again"},
    {"inspect /dev/null", 1, "open /dev/null: is not a regular file"},

    // ---- launch ----
    {"launch --rdzv-id-file @/none train @/run.yaml", 1, "open @/none: No such file or directory"},
    {"launch --rdzv-id-file @/empty train @/run.yaml", 2,
     "--rdzv-id-file: @/empty must contain the id of the job"},
    {"launch --rdzv-id a --rdzv-id-file @/text.txt train @/run.yaml", 2,
     "--rdzv-id-file: must not be combined with --rdzv-id or SMOE_RDZV_ID"},

    // ---- report ----
    {"report", 2, "smoe report: RUN is required; see smoe report --help"},
    {"report @/none", 2, "@/none: must be the folder of a run; got one without metrics.jsonl"},
    {"report @/text.txt", 2,
     "@/text.txt: must be the folder of a run; got one without metrics.jsonl"},
    {"report @/runs/r --output @/runs", 1, "rename * @/runs: Is a directory"},
    {"report @/runs/r --output @/runs/r/metrics.jsonl", 2,
     "@/runs/r/metrics.jsonl: cannot be written: it is an input"},
    {"compare @/runs/r @/runs/r --output @/runs/r/./config.yaml", 2,
     "@/runs/r/./config.yaml: cannot be written: it is an input"},
};

std::string in_folder(std::string text, const std::string& folder) {
  for (std::size_t at; (at = text.find('@')) != std::string::npos;) text.replace(at, 1, folder);
  return text;
}

// Whether `text` matches `pattern`, in which "*" matches anything.
bool matches(std::string_view text, std::string_view pattern) {
  const std::size_t star = pattern.find('*');
  if (star == std::string_view::npos) return text == pattern;
  if (!text.starts_with(pattern.substr(0, star))) return false;
  text.remove_prefix(star);
  pattern.remove_prefix(star + 1);
  for (; !text.empty(); text.remove_prefix(1))
    if (matches(text, pattern)) return true;
  return matches(text, pattern);
}

void cut(const std::string& from, const std::string& to, std::size_t bytes) {
  overwrite(to, read_file(from, 1 << 24).substr(0, bytes));
}

// Creates all files that the rows name, valid and invalid.
void fill_folder(const TemporaryFolder& folder) {
  std::string text;
  for (int i = 0; i < 300; ++i) text += "line of text " + std::to_string(i) + "\n";
  overwrite(folder / "text.txt", text);
  overwrite(folder / "empty", "");
  overwrite(folder / "zeros", std::string(1000, '\0'));
  overwrite(folder / "false.gz", "no gzip\n");
  overwrite(folder / "cut.gz", std::string("\x1f\x8b\x08\0\0\0\0\0\0\x03", 10) +
                                   "\x01\xe8\x03\x17\xfc" + std::string(45, 'x'));
  make_folders(folder / "empty.folder");
  // A sparse file of 3 TiB.
  File::create(folder / "huge").resize(std::int64_t{3} << 40);

  const std::string config =
      "run: {name: r, dir: " + (folder / "runs") + ", threads: 1}\n" +
      "model: {num_layers: 1, d_model: 8, num_heads: 2, num_kv_heads: 1, head_dim: 4,"
      " d_expert: 8, num_experts: 2, top_k: 1}\n"
      "data: {path: " +
      (folder / "set.h5") + "}\n" +
      "train: {steps: 2, seq_len: 8, micro_batch: 2, global_batch: 2}\n";
  overwrite(folder / "run.yaml", config);
  overwrite(folder / "twice.yaml", config + "train: {steps: 3}\n");
  REQUIRE(run_smoe("prepare --input " + (folder / "text.txt") + " --output " + (folder / "set.h5"))
              .exit_code == 0);
  cut(folder / "set.h5", folder / "cut.h5", 3000);
  for (const char* name : {"r", "damaged"})
    REQUIRE(run_smoe("train " + (folder / "run.yaml") + " run.name=" + name).exit_code == 0);
  const std::string damaged = folder / "runs/damaged/";
  overwrite(damaged + "checkpoints/step-00000002/shard-00000.bin", "");
  const std::string metrics = read_file(damaged + "metrics.jsonl", 1 << 20);
  overwrite(damaged + "metrics.jsonl", metrics.substr(0, metrics.find('\n') + 1) + "{}\n");
}

// Exports of the run: one valid, the others each with one defect.
void fill_exports(const TemporaryFolder& folder) {
  constexpr std::int64_t kHuge = std::int64_t{3} << 40;
  for (const char* name : {"hf", "hf-cut", "hf-long", "hf-json", "hf-huge", "hf-none"})
    REQUIRE(run_smoe("export " + (folder / "runs/r ") + (folder / name)).exit_code == 0);
  cut(folder / "hf/model.safetensors", folder / "hf-cut/model.safetensors", 300);
  File::open_append(folder / "hf-long/model.safetensors").resize(kHuge);
  overwrite(folder / "hf-json/config.json", "{\n");
  File::open_append(folder / "hf-huge/config.json").resize(kHuge);
  remove_file(folder / "hf-none/model.safetensors");
}

// Adds the digests of all files in a folder and its subfolders, by path, except run.lock.
void add_files(const std::string& folder, std::map<std::string, std::string>& files) {
  for (const FolderEntry& entry : list_folder(folder)) {
    const std::string path = folder + "/" + entry.name;
    if (entry.kind == PathKind::folder) {
      files[path] = "folder";
      add_files(path, files);
    } else {
      if (entry.name == "run.lock") continue;
      const bool is_huge = entry.bytes > 1 << 24;
      files[path] =
          is_huge ? std::to_string(entry.bytes) : digest_of(read_file(path, 1 << 24)).hex();
    }
  }
}

std::map<std::string, std::string> files_in(const std::string& folder) {
  std::map<std::string, std::string> files;
  add_files(folder, files);
  return files;
}

// The first path whose content differs between `a` and `b`; empty when there is none.
std::string difference(const std::map<std::string, std::string>& a,
                       const std::map<std::string, std::string>& b) {
  for (const auto* files : {&a, &b}) {
    for (const auto& [path, content] : *files) {
      const auto there = a.find(path), here = b.find(path);
      if (there == a.end() || here == b.end() || there->second != here->second) return path;
    }
  }
  return "";
}

}  // namespace

TEST_CASE(
    "every command refuses invalid input in one line with its exit code and changes nothing") {
  const TemporaryFolder folder;
  fill_folder(folder);
  fill_exports(folder);
  auto before = files_in(folder.path());
  for (const Row& row : kRows) {
    const std::string arguments = row.arguments;
    CAPTURE(arguments);
    const Outcome outcome =
        run_smoe(in_folder(arguments, folder.path()) + " 2>&1 >/dev/null </dev/null");
    CHECK(outcome.exit_code == row.exit_code);
    REQUIRE(outcome.output.ends_with('\n'));
    std::string line = outcome.output.substr(0, outcome.output.size() - 1);
    // Only skipped checkpoints may be printed before the error.
    for (std::size_t end; (end = line.find('\n')) != std::string::npos; line.erase(0, end + 1))
      CHECK(line.starts_with("passing over a damaged checkpoint: "));
    const std::string expected = in_folder(row.message, folder.path());
    CAPTURE(line);
    CAPTURE(expected);
    CHECK(matches(line, expected));
    auto after = files_in(folder.path());
    CHECK(difference(before, after) == "");
    before = std::move(after);
  }
}

TEST_CASE("a path that is too long is an ordinary error") {
  const TemporaryFolder folder;
  const std::string path = folder / std::string(5000, 'x');
  for (const std::string& command :
       {std::string("train "), "prepare --output " + (folder / "o.h5") + " --input "}) {
    const Outcome outcome = run_smoe(command + path + " 2>&1 >/dev/null");
    CHECK((outcome.exit_code == 1 || outcome.exit_code == 2));
    CHECK(outcome.output.find('\n') == outcome.output.size() - 1);
  }
  CHECK(list_folder(folder.path()).empty());
}
