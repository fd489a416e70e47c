// Kinds of attention and MLP in a configuration, with settings of their own.
#include "tests/support/layer_kinds.h"

#include <doctest/doctest.h>

#include "tests/train/config/valid_config.h"
#include "train/config/changes.h"
#include "train/config/schema.h"

using namespace smoe;

TEST_CASE("a registered kind is named in the model section, its settings beside it in any order") {
  test::register_test_kinds();
  const std::string yaml = kValid + "# the kind comes last\n";
  const Config plain = parse_config(yaml, "a.yaml");
  CHECK(plain.model.attention.kind == "gqa");
  CHECK(plain.model.mlp.kind == "moe");
  const Config config = parse_config(yaml, "a.yaml",
                                     {"model.mlp.rank=7", "model.attention.kind=test_routed",
                                      "model.mlp.kind=test_adapters", "model.train_only=lora"});
  CHECK(config.model.attention.kind == "test_routed");
  CHECK(config.model.mlp.settings ==
        std::map<std::string, KindValue>{{"num_adapters", test::kNumAdapters},
                                         {"top_k", std::int64_t{1}},
                                         {"rank", std::int64_t{7}},
                                         {"alpha", 4.0}});
  // What is printed parses to the same, and resuming may not change it.
  CHECK(config_digest(parse_config(to_yaml(config), "b.yaml")) == config_digest(config));
  Config other = config;
  other.model.mlp.settings["rank"] = std::int64_t{8};
  CHECK(config_digest(other) != config_digest(config));
  REQUIRE(changes_between(config, other).size() == 1);
  CHECK(changes_between(config, other)[0].key == "model.mlp.rank");
  CHECK_FALSE(is_same_run(to_yaml(config), other));
  CHECK_FALSE(is_same_run(to_yaml(config), plain));
}

TEST_CASE("errors of kinds and their settings") {
  test::register_test_kinds();
  CHECK(error_with({"model.attention.kind=flash"})
            .starts_with(
                "override 'model.attention.kind=flash': model.attention.kind: must be one of gqa"));
  const std::string unknown = error_with({"model.mlp.kind=lorra"});
  CHECK(unknown.find("must be one of moe") != std::string::npos);
  CHECK(unknown.find("test_adapters") != std::string::npos);
  CHECK(unknown.ends_with("; got lorra"));
  CHECK(error_with({"model.mlp.rank=7"}) ==
        "override 'model.mlp.rank=7': model.mlp.rank: unknown key; `smoe train CONFIG "
        "--print-config` lists all keys");
  const std::string kind = "model.mlp.kind=test_adapters";
  CHECK(error_with({kind, "model.mlp.rank=0"}) ==
        "override 'model.mlp.rank=0': model.mlp.rank: must be at least 1; got 0");
  CHECK(error_with({kind, "model.mlp.rank=wide"}).ends_with("must be an integer; got wide"));
  CHECK(error_with({kind, "model.mlp.rankk=3"}).ends_with("did you mean model.mlp.rank?"));
}

TEST_CASE("keys that are newer than the digest do not change it at their old values") {
  // Of the same file, before there were kinds.
  const Config config = parse_config(kValid, "a.yaml", {"model.vocab_size=257"});
  CHECK(config_digest(config) == "451f98085a06f89309d1d541a8ea7f68");
}
