#include "train/config/config.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <random>
#include <set>

#include "core/io.h"
#include "tests/train/config/message_of.h"
#include "train/config/schema.h"

namespace smoe {
namespace {

/// The shortest legal file: one key a line, so that line numbers in the tests can be counted.
const std::string kValid =
    "run: {name: test}\n"        // 1
    "model:\n"                   // 2
    "  num_layers: 2\n"          // 3
    "  d_model: 16\n"            // 4
    "  num_heads: 4\n"           // 5
    "  num_kv_heads: 2\n"        // 6
    "  head_dim: 4\n"            // 7
    "  d_expert: 8\n"            // 8
    "  num_experts: 4\n"         // 9
    "  top_k: 2\n"               // 10
    "data: {path: tokens.h5}\n"  // 11
    "train:\n"                   // 12
    "  steps: 10\n"              // 13
    "  seq_len: 8\n"             // 14
    "  micro_batch: 3\n"         // 15
    "  global_batch: 6\n";       // 16

using Overrides = std::vector<std::string>;

std::string error_with(const Overrides& overrides, const std::string& yaml = kValid) {
  return message_of([&] { parse_config(yaml, "a.yaml", overrides); });
}

/// kValid without the line that gives `key`.
std::string without(const std::string& key) {
  std::string yaml = kValid;
  const std::size_t begin = yaml.rfind('\n', yaml.find(key)) + 1;
  return yaml.erase(begin, yaml.find('\n', begin) + 1 - begin);
}

TEST_CASE("a file sets what it names and leaves the rest at its default") {
  const Config config = parse_config(kValid + "optim: {lr: 1e-3}\n", "a.yaml");
  CHECK(config.run.name == "test");
  CHECK(config.run.folder() == "runs/test");
  CHECK(config.model.num_kv_heads == 2);
  CHECK(config.train.global_batch == 6);
  CHECK(config.optim.lr == 1e-3);
  CHECK(config.optim.beta2 == OptimConfig{}.beta2);
  CHECK(config.train.precision == DType::f32);
}

TEST_CASE("overrides replace the file's values in their order") {
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

struct Broken {
  Overrides overrides;
  std::string message;
};

/// One value outside of each rule; the last override is the broken one.
const Broken kBrokenRules[] = {
    {{"run.name=a/b"}, "a folder's name without '/'; got a/b"},
    {{"run.name="}, "a folder's name without '/'; got \"\""},
    {{"run.name=.."}, "a folder's name without '/'; got .."},
    {{"run.dir="}, "non-empty text; got \"\""},
    {{"run.seed=-1"}, "at least 0; got -1"},
    {{"run.device=tpu"}, "one of auto, cuda, cpu; got tpu"},
    {{"run.threads=1025"}, "from 0 to 1024; got 1025"},
    {{"model.vocab_size=-1"}, "from 0 to 10^9; got -1"},
    {{"model.num_layers=0"}, "from 1 to 10^9; got 0"},
    {{"model.d_model=0"}, "from 1 to 10^9; got 0"},
    {{"model.num_heads=-4"}, "from 1 to 10^9; got -4"},
    {{"model.num_kv_heads=0"}, "from 1 to 10^9; got 0"},
    {{"model.head_dim=1000000001"}, "from 1 to 10^9; got 1000000001"},
    {{"model.d_expert=0"}, "from 1 to 10^9; got 0"},
    {{"model.num_experts=0"}, "from 1 to 10^9; got 0"},
    {{"model.top_k=0"}, "from 1 to 10^9; got 0"},
    {{"model.num_shared_experts=-1"}, "from 0 to 10^9; got -1"},
    {{"model.rope_theta=0.5"}, "at least 1; got 0.5"},
    {{"model.norm_epsilon=0"}, "above 0; got 0"},
    {{"model.init_std=-0.02"}, "above 0; got -0.02"},
    {{"model.router.balance_loss=-1"}, "at least 0; got -1"},
    {{"model.router.z_loss=-1e-3"}, "at least 0; got -1e-3"},
    {{"model.router.jitter=1"}, "at least 0 and below 1; got 1"},
    {{"model.router.selection_bias_rate=-1"}, "at least 0; got -1"},
    {{"data.path="}, "non-empty text; got \"\""},
    {{"train.steps=0"}, "from 1 to 10^9; got 0"},
    {{"train.seq_len=0"}, "from 1 to 10^9; got 0"},
    {{"train.micro_batch=0"}, "from 1 to 10^9; got 0"},
    {{"train.global_batch=0"}, "from 1 to 10^9; got 0"},
    {{"train.eval_every=-1"}, "from 0 to 10^9; got -1"},
    {{"train.eval_batches=-1"}, "from 0 to 10^9; got -1"},
    {{"train.max_nonfinite=0"}, "from 1 to 10^9; got 0"},
    {{"optim.lr=0"}, "above 0; got 0"},
    {{"optim.beta1=1.0"}, "at least 0 and below 1; got 1.0"},
    {{"optim.beta2=-0.1"}, "at least 0 and below 1; got -0.1"},
    {{"optim.epsilon=0"}, "above 0; got 0"},
    {{"optim.weight_decay=-0.1"}, "at least 0; got -0.1"},
    {{"optim.clip_norm=-1"}, "at least 0; got -1"},
    {{"schedule.warmup_steps=-1"}, "from 0 to 10^9; got -1"},
    {{"schedule.min_ratio=1.1"}, "from 0 to 1; got 1.1"},
    {{"schedule.decay_fraction=-0.2"}, "from 0 to 1; got -0.2"},
    {{"checkpoint.every=-1"}, "from 0 to 10^9; got -1"},
    {{"checkpoint.keep=1"}, "at least 2; got 1"},
    {{"checkpoint.keep_every=-1"}, "from 0 to 10^9; got -1"},
    {{"checkpoint.resume="}, "non-empty text; got \"\""},
    {{"log.every=0"}, "from 1 to 10^9; got 0"},
};

/// One broken example for each relation; the last override is the key that is named.
const Broken kBrokenRelations[] = {
    {{"model.num_heads=3"}, "a multiple of model.num_kv_heads=2; got 3"},
    {{"model.head_dim=5"}, "even, for rotary embeddings; got 5"},
    {{"model.top_k=5"}, "at most model.num_experts=4; got 5"},
    {{"model.router.selection_bias_rate=0.001"},
     "0 unless model.router.score is sigmoid; got 0.001"},
    {{"train.global_batch=8"}, "a multiple of train.micro_batch=3, nearest 6 or 9; got 8"},
    {{"train.global_batch=2"}, "a multiple of train.micro_batch=3, nearest 3; got 2"},
    {{"train.on_nonfinite=rollback"}, "skip or stop without checkpoint.every; got rollback"},
    {{"schedule.warmup_steps=11"}, "at most train.steps=10; got 11"},
    {{"schedule.warmup_steps=5", "schedule.kind=wsd", "schedule.decay_fraction=0.6"},
     "at most 0.5, the share of steps after the warm-up; got 0.6"},
    {{"checkpoint.keep_every=10"}, "a multiple of checkpoint.every=0; got 10"},
    {{"checkpoint.every=4", "checkpoint.keep_every=10"},
     "a multiple of checkpoint.every=4; got 10"},
};

std::string key_of(const Broken& broken) {
  return broken.overrides.back().substr(0, broken.overrides.back().find('='));
}

/// The keys of which the table breaks something, each checked to give the message.
template <std::size_t N>
std::set<std::string> checked_keys(const Broken (&table)[N]) {
  std::set<std::string> keys;
  for (const Broken& broken : table) {
    const std::string key = key_of(broken);
    CHECK(error_with(broken.overrides) ==
          concat("override '", broken.overrides.back(), "': ", key, ": must be ", broken.message));
    keys.insert(key);
  }
  return keys;
}

TEST_CASE("every rule of a key has a broken example") {
  std::set<std::string> ruled;
  Config config;
  for (const Field& field : fields_of(config))
    if (!field.rule.text.empty()) ruled.insert(std::string(field.key));
  CHECK(checked_keys(kBrokenRules) == ruled);
}

TEST_CASE("every relation between keys has a broken example") {
  std::set<std::string> related;
  for (const Relation& relation : relations_of(parse_config(kValid, "a.yaml")))
    related.insert(std::string(relation.key));
  CHECK(checked_keys(kBrokenRelations) == related);
}

TEST_CASE("values at the edge of a rule are legal") {
  CHECK(error_with({"optim.beta1=0", "schedule.min_ratio=1", "model.router.jitter=0",
                    "checkpoint.keep=2", "schedule.warmup_steps=10", "model.top_k=4",
                    "run.threads=1024", "train.global_batch=3", "optim.clip_norm=0"}) ==
        "no error");
  CHECK(error_with({"schedule.warmup_steps=5", "schedule.kind=wsd",
                    "schedule.decay_fraction=0.5"}) == "no error");
  CHECK(error_with({"train.on_nonfinite=rollback", "checkpoint.every=5",
                    "checkpoint.keep_every=10"}) == "no error");
  CHECK(error_with({"model.router.score=sigmoid", "model.router.selection_bias_rate=0.1"}) ==
        "no error");
}

TEST_CASE("every key refuses a value of another type, a section and nothing") {
  Config config;
  for (const Field& field : fields_of(config)) {
    const std::string key(field.key);
    const std::string type = type_of(field.slot);
    const bool is_text = std::holds_alternative<std::string*>(field.slot);
    const std::string text = is_text ? "a\x01" : "1x";
    CHECK(error_with({key + "=" + text}) ==
          concat("override '", key, "=", is_text ? "a\\x01" : text, "': ", key, ": must be ",
                 is_text ? "text in UTF-8 without control characters; got a\\x01"
                         : type + "; got 1x"));

    std::string opening = "{", closing = "}";  // the key alone, its sections around it
    for (const char c : key) {
      opening += c == '.' ? ": {" : std::string(1, c);
      closing += c == '.' ? "}" : "";
    }
    opening += ": ";
    CHECK(error_with({}, opening + "{}" + closing) ==
          concat("a.yaml:1: ", key, ": must be ", type, "; got a section"));
    CHECK(error_with({}, opening + closing) ==
          concat("a.yaml:1: ", key, ": must be ", type, "; got nothing"));
    if (!is_text)
      CHECK(error_with({}, opening + "'1x'" + closing) ==
            concat("a.yaml:1: ", key, ": must be ", type, "; got \"1x\""));
  }
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
  CHECK(error_with({}, without("path")) == "a.yaml: data.path: required; must be non-empty text");
  CHECK(error_with({}, "") == "a.yaml: run.name: required; must be a folder's name without '/'");
}

TEST_CASE("unknown keys are answered with the nearest known one") {
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
      {"optim.lr.x", ""},
      {"train.recompute", ""},
      {"parallel", ""},
      {".", ""},
  };
  for (const auto& [key, hint] : cases)
    CHECK(error_with({concat(key, "=1")}) ==
          concat("override '", key, "=1': ", key, ": unknown key", hint));
  CHECK(error_with({std::string(1000, 'k') + "=1"}).ends_with("...: unknown key"));
}

TEST_CASE("the printed config reads back as the same config") {
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
                               "\xc2\x85",
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
      REQUIRE(to_yaml(fields[f].slot) == to_yaml(fields_back[f].slot));
    REQUIRE(back.optim.lr == config.optim.lr);
    REQUIRE(back.run.dir == config.run.dir);
    REQUIRE(back.train.precision == config.train.precision);
    REQUIRE(to_yaml(back) == yaml);
  }
}

TEST_CASE("keys are unique and each stands with its section") {
  Config config;
  std::set<std::string_view> keys, sections;
  std::string_view previous;
  for (const Field& field : fields_of(config)) {
    CAPTURE(field.key);
    CHECK(keys.insert(field.key).second);
    CHECK_FALSE(field.meaning.empty());
    const std::string_view section = field.key.substr(0, field.key.rfind('.'));
    if (section != previous) CHECK(sections.insert(section).second);
    previous = section;
  }
}

TEST_CASE("the digest changes with what decides the trained numbers and nothing else") {
  const auto digest = [](const Overrides& overrides) {
    return config_digest(parse_config(kValid, "a.yaml", overrides));
  };
  const std::string base = digest({});
  CHECK(base.size() == 32);
  CHECK(digest({}) == base);
  for (const char* same :
       {"run.name=other", "run.dir=elsewhere", "run.device=cpu", "run.threads=1", "data.path=x",
        "train.eval_every=5", "checkpoint.every=5", "checkpoint.resume=none", "log.every=1",
        "train.on_nonfinite=stop", "optim.lr=3e-4", "optim.lr=0.0003"})
    CHECK(digest({same}) == base);
  std::set<std::string> digests{base};
  for (const char* other :
       {"run.seed=1", "model.d_model=32", "model.router.jitter=0.1", "train.steps=11",
        "train.global_batch=9", "train.micro_batch=2", "train.precision=fp64", "optim.lr=3.1e-4",
        "optim.beta2=0.951", "schedule.kind=constant", "model.activation=gelu"})
    CHECK(digests.insert(digest({other})).second);
}

TEST_CASE("the configurations in configs/ are legal") {
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

TEST_CASE("a file that is not there is the system's error and names itself") {
  CHECK_THROWS_AS(load_config("no/such/file.yaml"), SystemError);
}

TEST_CASE("no damage to a file does more than give one line") {
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
