#include "train/config/config.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <random>
#include <set>

#include "core/system/file.h"
#include "core/system/folder.h"
#include "tests/train/config/valid_config.h"
#include "train/config/schema.h"

namespace smoe {
namespace {

/// kValid without the line of `key`.
std::string without(const std::string& key) {
  std::string yaml = kValid;
  const std::size_t begin = yaml.rfind('\n', yaml.find(key)) + 1;
  return yaml.erase(begin, yaml.find('\n', begin) + 1 - begin);
}

TEST_CASE("a file sets its keys and leaves the others at their defaults") {
  const Config config = parse_config(kValid + "optim: {lr: 1e-3}\n", "a.yaml");
  CHECK(config.run.name == "test");
  CHECK(config.run.folder() == "runs/test");
  CHECK(config.model.num_kv_heads == 2);
  CHECK(config.train.global_batch == 6);
  CHECK(config.optim.lr == 1e-3);
  CHECK(config.optim.beta2 == OptimConfig{}.beta2);
  CHECK(config.train.precision == DType::f32);
}

TEST_CASE("overrides replace the file's values in order") {
  const Config config = parse_config(
      kValid, "a.yaml",
      {"optim.lr=1", "optim.lr=2", "train.precision=bf16", "model.router.score=sigmoid",
       "model.tie_embeddings=true", "data.validation=a=b.h5", "train.steps=20"});
  CHECK(config.optim.lr == 2);
  CHECK(config.train.precision == DType::bf16);
  CHECK(config.model.router.score == RouterScore::sigmoid);
  CHECK(config.model.tie_embeddings);
  CHECK(config.data.validation == "a=b.h5");
  CHECK(config.train.steps == 20);
}

TEST_CASE("errors in a file name its line") {
  const std::pair<std::string, const char*> cases[] = {
      {"optim: {lrr: 1}\n", "a.yaml:17: optim.lrr: unknown key; did you mean optim.lr?"},
      {"optim:\n  lr: fast\n", "a.yaml:18: optim.lr: must be a number; got fast"},
      {"optim: 3\n", "a.yaml:17: optim: must be a section; got 3"},
      {"optim: ''\n", "a.yaml:17: optim: must be a section; got \"\""},
      {"log:\n  every: 0\n", "a.yaml:18: log.every: must be from 1 to 10^9; got 0"},
      {"checkpoint:\n  keep: '2'\n", "a.yaml:18: checkpoint.keep: must be an integer; got \"2\""},
      {"schedule:\n\n  warmup_steps: 11\n",
       "a.yaml:19: schedule.warmup_steps: must be at most train.steps=10; got 11"},
      {"run: {seed: 1}\n", "a.yaml:17: run: given twice; first in line 1"},
  };
  for (const auto& [yaml, message] : cases) CHECK(error_with({}, kValid + yaml) == message);
  CHECK(error_with({}, kValid + "log:\noptim: {}\n") == "no error");
  CHECK(error_with({"train.micro_batch=4"}) ==
        "a.yaml:16: train.global_batch: must be a multiple of train.micro_batch=4, "
        "nearest 4 or 8; got 6");
}

TEST_CASE("keys without a default are required") {
  const char* kRequired[] = {"num_layers", "d_model",  "num_heads",   "num_kv_heads",
                             "head_dim",   "d_expert", "num_experts", "top_k",
                             "steps",      "seq_len",  "micro_batch", "global_batch"};
  for (const char* name : kRequired) {
    const std::string message = error_with({}, without(std::string("  ") + name));
    CAPTURE(message);
    CHECK(message.ends_with(concat(".", name, ": required; must be from 1 to 10^9")));
    CHECK(message.starts_with("a.yaml: "));
  }
  CHECK(error_with({}, without("path")) ==
        "a.yaml: data.path: must be the path of a token set, unless data.sources names several; "
        "got \"\"");
  CHECK(error_with({}, "") ==
        "a.yaml: run.name: required; must be a folder's name without '/'; also required: "
        "model.num_layers, model.d_model, model.num_heads, model.num_kv_heads, model.head_dim, "
        "model.d_expert, model.num_experts, model.top_k, train.steps, train.seq_len, "
        "train.micro_batch, train.global_batch, data.path or data.sources");
}

TEST_CASE("errors on unknown keys suggest the nearest known one") {
  const char* const kNoHint = "; `smoe train CONFIG --print-config` lists all keys";
  const std::pair<const char*, const char*> cases[] = {
      {"optim.lrr", "; did you mean optim.lr?"},
      {"optimm", "; did you mean optim?"},
      {"optm.lr", "; did you mean optim.lr?"},
      {"lr", "; did you mean optim.lr?"},
      {"train.lr", "; did you mean optim.lr?"},
      {"model.balance_loss", "; did you mean model.router.balance_loss?"},
      {"model.router.scores", "; did you mean model.router.score?"},
      {"checkpoint.evry", "; did you mean checkpoint.every?"},
      {"log.evry", "; did you mean log.every?"},
      {"model.n_layers", "; did you mean model.num_layers?"},
      {"model.numexperts", "; did you mean model.num_experts?"},
      {"optim.lr.x", kNoHint},
      {"train.remember", kNoHint},
      {"observability", kNoHint},
      {".", kNoHint},
  };
  for (const auto& [key, hint] : cases)
    CHECK(error_with({concat(key, "=1")}) ==
          concat("override '", key, "=1': ", key, ": unknown key", hint));
  CHECK(error_with({std::string(1000, 'k') + "=1"}).ends_with(concat("...: unknown key", kNoHint)));
}

TEST_CASE("the printed config parses to the same config") {
  std::mt19937_64 random(7);
  const std::string texts[] = {"plain",
                               "two words",
                               "#",
                               "a: b",
                               "null",
                               "~",
                               "007",
                               "\"q\" \\ 'r'",
                               " pad ",
                               "gr\xc3\xbc\xc3\x9f\xf0\x9f\x8e\x89",
                               "-",
                               "{a: [b",
                               "\xe2\x80\xa8",
                               "\xc2\xa0",
                               "%x",
                               "*a",
                               "&b",
                               "!c",
                               "@",
                               "`"};
  for (int i = 0; i < 200; ++i) {
    Config config = parse_config(kValid, "a.yaml");
    config.run.name = config.run.dir = config.data.path = config.data.validation =
        config.checkpoint.resume = texts[random() % std::size(texts)];
    config.run.seed = static_cast<std::int64_t>(random() >> 1);
    config.optim.lr = std::exp2(static_cast<double>(random() % 2000) - 1000) / 3;
    config.optim.beta1 = static_cast<double>(random()) * 0x1p-65;
    config.model.init_std = 0x1p-1074;
    config.model.tie_embeddings = i % 2 == 0;
    config.model.activation = static_cast<Activation>(i % 4);
    config.model.router.score = static_cast<RouterScore>(i / 4 % 4);
    config.schedule.kind = static_cast<ScheduleKind>(i / 16 % 4);
    config.train.on_nonfinite = static_cast<NonfinitePolicy>(i % 2);
    config.train.precision = i % 3 == 0 ? DType::bf16 : DType::f64;

    const std::string yaml = to_yaml(config);
    CAPTURE(yaml);
    Config back = parse_config(yaml, "printed.yaml");
    const std::vector<Field> fields = fields_of(config), fields_back = fields_of(back);
    for (std::size_t f = 0; f < fields.size(); ++f)
      REQUIRE(to_yaml(fields[f].target) == to_yaml(fields_back[f].target));
    REQUIRE(back.optim.lr == config.optim.lr);
    REQUIRE(back.run.dir == config.run.dir);
    REQUIRE(back.train.precision == config.train.precision);
    REQUIRE(to_yaml(back) == yaml);
  }
}

TEST_CASE("the digest changes only with keys that affect the trained weights") {
  const auto digest = [](const Overrides& overrides) {
    return config_digest(parse_config(kValid, "a.yaml", overrides));
  };
  const std::string base = digest({});
  CHECK(base.size() == 32);
  CHECK(digest({}) == base);
  for (const char* same :
       {"run.name=other", "run.dir=elsewhere", "run.device=cpu", "run.threads=1", "data.path=x",
        "train.eval_every=5", "checkpoint.every=5", "checkpoint.resume=none", "log.every=1",
        "parallel.zero=1", "parallel.bucket_mb=3", "train.on_nonfinite=stop", "optim.lr=3e-4",
        "optim.lr=0.0003"})
    CHECK(digest({same}) == base);
  std::set<std::string> digests{base};
  for (const char* other :
       {"run.seed=1", "model.d_model=32", "model.router.jitter=0.1", "train.steps=11",
        "train.global_batch=9", "train.micro_batch=2", "train.precision=fp64", "optim.lr=3.1e-4",
        "optim.beta2=0.951", "schedule.kind=constant", "model.activation=gelu"})
    CHECK(digests.insert(digest({other})).second);
}

TEST_CASE("the configurations in configs/ are valid") {
  int num_configs = 0;
  for (const FolderEntry& entry : list_folder("configs")) {
    if (!entry.name.ends_with(".yaml")) continue;
    CAPTURE(entry.name);
    const std::string path = "configs/" + entry.name;
    CHECK(load_config(path).run.name + ".yaml" == entry.name);
    const std::string text = read_file(path, 1 << 20);
    CHECK(std::count(text.begin(), text.end(), '\n') <= 80);
    ++num_configs;
  }
  CHECK(num_configs >= 2);
}

TEST_CASE("a missing file is an error that names it") {
  CHECK_THROWS_WITH_AS(load_config("no/such/file.yaml"), "no/such/file.yaml: there is no such file",
                       UsageError);
}

TEST_CASE("a damaged file gives one line of error") {
  const std::string whole = read_file("configs/tiny.yaml", 1 << 20);
  const std::string pieces[] = {
      "{",    "}",    "[",   "\n", "  ", ": ",    "&a ", "*a",           "!t ",
      "\"",   "'",    "|\n", "? ", "- ", "---\n", "#",   "<<: ",         std::string(1, '\0'),
      "\xc3", "\xff", "%",   "\t", "\r", "0",     "\\",  "\xe2\x80\xa8", "~",
      ",",    "@"};
  std::mt19937_64 random(3);
  int num_refused = 0;
  for (int i = 0; i < 5000; ++i) {
    std::string yaml = whole;
    for (std::uint64_t edits = 1 + random() % 4; edits > 0; --edits) {
      const std::size_t at = random() % yaml.size();
      switch (random() % 4) {
        case 0:
          yaml.erase(at, 1 + random() % 30);
          break;
        case 1:
          yaml[at] = static_cast<char>(random());
          break;
        case 2:
          yaml.resize(at + 1);
          break;
        default:
          yaml.insert(at, pieces[random() % std::size(pieces)]);
      }
      if (yaml.empty()) yaml = whole;
    }
    const std::string message = message_of([&] { parse_config(yaml, "a.yaml"); });
    if (message == "no error") continue;
    ++num_refused;
    CAPTURE(yaml);
    REQUIRE(message.starts_with("a.yaml:"));
    REQUIRE(message.find_first_of("\r\n\0") == std::string::npos);
  }
  CHECK(num_refused > 2500);
}

}  // namespace
}  // namespace smoe
