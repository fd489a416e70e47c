// Every rule of the schema has a violating example here; the tests detect a missing one.
#include "train/config/schema.h"

#include <doctest/doctest.h>

#include <set>

#include "tests/train/config/valid_config.h"

namespace smoe {
namespace {

struct Broken {
  Overrides overrides;
  std::string message;
};

/// One violation of each rule; the last override is the violating one.
const Broken kBrokenRules[] = {
    {{"run.name=a/b"}, "a folder's name without '/'; got a/b"},
    {{"run.name="}, "a folder's name without '/'; got \"\""},
    {{"run.name=.."}, "a folder's name without '/'; got .."},
    {{"run.dir="}, "a folder's path; '~' is not expanded; got \"\""},
    {{"run.dir=~/runs"}, "a folder's path; '~' is not expanded; got ~/runs"},
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
    {{"model.max_positions=-1"}, "from 0 to 10^9; got -1"},
    {{"model.init_std=-0.02"}, "above 0; got -0.02"},
    {{"model.attention.kind=flash"}, "one of gqa, moa; got flash"},
    {{"model.mlp.kind=dense"}, "one of moe; got dense"},
    {{"model.router.balance_loss=-1"}, "at least 0; got -1"},
    {{"model.router.z_loss=-1e-3"}, "at least 0; got -1e-3"},
    {{"model.router.jitter=1"}, "at least 0 and below 1; got 1"},
    {{"model.router.selection_bias_rate=-1"}, "at least 0; got -1"},
    {{"data.sources.web.path="}, "non-empty text; got \"\""},
    {{"data.sources.web.weight=0"}, "above 0; got 0"},
    {{"train.steps=0"}, "from 1 to 10^9; got 0"},
    {{"train.seq_len=0"}, "from 1 to 10^9; got 0"},
    {{"train.micro_batch=0"}, "from 1 to 10^9; got 0"},
    {{"train.global_batch=0"}, "from 1 to 10^9; got 0"},
    {{"train.recompute_layers=-1"}, "from 0 to 10^9; got -1"},
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
    {{"parallel.bucket_mb=1025"}, "from 0 to 1024; got 1025"},
    {{"parallel.check_every=-1"}, "from 0 to 10^9; got -1"},
    {{"parallel.timeout_s=-1"}, "from 0 to 10^9; got -1"},
    {{"checkpoint.every=-1"}, "from 0 to 10^9; got -1"},
    {{"checkpoint.every_minutes=-0.5"}, "at least 0; got -0.5"},
    {{"checkpoint.keep=0"}, "at least 1; got 0"},
    {{"checkpoint.keep_every=-1"}, "from 0 to 10^9; got -1"},
    {{"checkpoint.resume="}, "non-empty text; got \"\""},
    {{"log.every=0"}, "from 1 to 10^9; got 0"},
    {{"profile.every=-1"}, "from 0 to 10^9; got -1"},
    {{"profile.steps=0"}, "from 1 to 10^9; got 0"},
};

/// One violation of each relation; the last override is the reported key.
const Broken kBrokenRelations[] = {
    {{"model.num_experts=500001"}, "at most 500000, with model.num_layers=2; got 500001"},
    {{"model.d_expert=1000000000", "model.d_model=1000000000"},
     "small enough for a model of at most 10^15 parameters; got 1000000000"},
    {{"data.path="}, "the path of a token set, unless data.sources names several; got \"\""},
    {{"data.sources.web.path=a", "data.sources.web.weight=1", "data.path=b"},
     "empty, since data.sources names the token sets; got \"b\""},
    {{"model.num_heads=3"}, "a multiple of model.num_kv_heads=2; got 3"},
    {{"model.attention.kind=moa", "model.attention.top_k=1", "model.attention.num_experts=500001"},
     "at most 500000, with model.num_layers=2; got 500001"},
    {{"model.attention.kind=moa", "model.attention.num_experts=4", "model.attention.top_k=5"},
     "at most model.attention.num_experts=4; got 5"},
    {{"model.attention.kind=moa", "model.attention.num_experts=4", "model.attention.top_k=2",
      "model.num_heads=6"},
     "a multiple of model.attention.top_k * model.num_kv_heads=4, nearest 4 or 8; got 6"},
    {{"model.head_dim=5"}, "even, for rotary embeddings; got 5"},
    {{"model.top_k=5"}, "at most model.num_experts=4; got 5"},
    {{"model.router.selection_bias_rate=0.001"},
     "0 unless model.router.score is sigmoid; got 0.001"},
    {{"train.global_batch=8"}, "a multiple of train.micro_batch=3, nearest 6 or 9; got 8"},
    {{"train.global_batch=2"}, "a multiple of train.micro_batch=3, nearest 3; got 2"},
    {{"train.recompute_layers=1"}, "0 with train.recompute=none; got 1"},
    {{"train.recompute=block", "train.recompute_layers=3"}, "at most model.num_layers=2; got 3"},
    {{"train.grad_dtype=bf16"}, "fp32 unless train.precision is bf16; got bf16"},
    {{"train.precision=fp64", "optim.moments=bf16"},
     "fp32 with train.precision=fp64, whose moments are fp64; got bf16"},
    {{"optim.beta2=0.995", "optim.moments=bf16"},
     "fp32 with optim.beta2=0.995, since bf16 rounds away changes of the second moment when "
     "optim.beta2 is above 0.9921875; got bf16"},
    {{"checkpoint.every_minutes=0", "train.on_nonfinite=rollback"},
     "skip or stop without checkpoint.every and checkpoint.every_minutes; got rollback"},
    {{"checkpoint.keep_best=true"}, "false without train.eval_every; got true"},
    {{"schedule.warmup_steps=11"}, "at most train.steps=10; got 11"},
    {{"schedule.warmup_steps=5", "schedule.kind=wsd", "schedule.decay_fraction=0.6"},
     "at most 0.5, the share of steps after the warm-up; got 0.6"},
    {{"checkpoint.keep_every=10"}, "0 without checkpoint.every; got 10"},
    {{"checkpoint.every=4", "checkpoint.keep_every=10"},
     "a multiple of checkpoint.every=4; got 10"},
    {{"profile.every=3", "profile.steps=3"}, "less than profile.every=3; got 3"},
};

std::string key_of(const Broken& broken) {
  return broken.overrides.back().substr(0, broken.overrides.back().find('='));
}

/// The keys with a violation in the table, each checked to give its message.
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

// A config with every kind of field.
Config config_with_source() {
  Config config;
  config.data.sources = {{"web", "", 0}};
  return config;
}

TEST_CASE("every rule of a key has a violating example") {
  std::set<std::string> ruled;
  Config config = config_with_source();
  for (const Field& field : fields_of(config))
    if (!field.rule.text.empty()) ruled.insert(std::string(field.key));
  CHECK(checked_keys(kBrokenRules) == ruled);
}

TEST_CASE("every relation between keys has a violating example") {
  std::set<std::string> related;
  const Overrides mixture{"model.attention.kind=moa", "model.attention.num_experts=4",
                          "model.attention.top_k=2"};
  for (const Relation& relation : relations_of(parse_config(kValid, "a.yaml", mixture)))
    related.insert(std::string(relation.key));
  CHECK(checked_keys(kBrokenRelations) == related);
}

TEST_CASE("values at the limits of a rule are valid") {
  CHECK(error_with({"optim.beta1=0", "schedule.min_ratio=1", "model.router.jitter=0",
                    "checkpoint.keep=1", "schedule.warmup_steps=10", "model.top_k=4",
                    "run.threads=1024", "train.global_batch=3", "optim.clip_norm=0",
                    "train.recompute=block", "train.recompute_layers=2", "optim.beta2=0.9921875",
                    "optim.moments=bf16", "train.precision=bf16", "train.grad_dtype=bf16"}) ==
        "no error");
  CHECK(error_with({"schedule.warmup_steps=5", "schedule.kind=wsd",
                    "schedule.decay_fraction=0.5"}) == "no error");
  CHECK(error_with({"train.on_nonfinite=rollback", "checkpoint.every=5",
                    "checkpoint.keep_every=10"}) == "no error");
  CHECK(error_with({"train.on_nonfinite=rollback", "checkpoint.every_minutes=0.5"}) == "no error");
  CHECK(error_with({"model.router.score=sigmoid", "model.router.selection_bias_rate=0.1"}) ==
        "no error");
}

TEST_CASE("every key refuses a value of another type, a section and nothing") {
  Config config = config_with_source();
  for (const Field& field : fields_of(config)) {
    const std::string key(field.key);
    const std::string type = type_of(field.target);
    const bool is_text = std::holds_alternative<std::string*>(field.target);
    const std::string text = is_text ? "a\x01" : "1x";
    CHECK(error_with({key + "=" + text}) ==
          concat("override '", key, "=", is_text ? "a\\x01" : text, "': ", key, ": must be ",
                 is_text ? "text in UTF-8 without control characters; got a\\x01"
                         : type + "; got 1x"));

    std::string opening = "{", closing = "}";  // only this key, in its sections
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

TEST_CASE("keys are unique and grouped by section") {
  Config config = config_with_source();
  std::set<std::string> keys, sections;
  std::string previous;
  for (const Field& field : fields_of(config)) {
    CAPTURE(field.key);
    CHECK(keys.insert(field.key).second);
    CHECK_FALSE(field.meaning.empty());
    const std::string section = field.key.substr(0, field.key.rfind('.'));
    if (section != previous) CHECK(sections.insert(section).second);
    previous = section;
  }
}

}  // namespace
}  // namespace smoe
