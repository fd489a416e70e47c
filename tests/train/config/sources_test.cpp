#include <doctest/doctest.h>

#include "tests/train/config/valid_config.h"
#include "train/config/changes.h"
#include "train/config/schema.h"

using namespace smoe;

namespace {

const std::string kPath = "data: {path: tokens.h5}\n";

// kValid with this instead of data.path, from line 11.
std::string valid_with(const std::string& data) {
  std::string yaml = kValid;
  return yaml.replace(yaml.find(kPath), kPath.size(), data);
}

const std::string kTwoSources = valid_with(
    "data:\n"                                      // 11
    "  sources:\n"                                 // 12
    "    web: {path: data/web.h5, weight: 0.7}\n"  // 13
    "    c_code-2:\n"                              // 14
    "      path: data/code.h5\n"                   // 15
    "      weight: 3\n");                          // 16

}  // namespace

TEST_CASE("sources keep their order, survive a round trip, and can be overridden") {
  const Config config = parse_config(kTwoSources, "a.yaml", {"data.sources.web.weight=2"});
  REQUIRE(config.data.sources.size() == 2);
  CHECK(config.data.path.empty());
  CHECK(config.data.sources[0].name == "web");
  CHECK(config.data.sources[0].path == "data/web.h5");
  CHECK(config.data.sources[0].weight == 2);
  CHECK(config.data.sources[1].name == "c_code-2");
  CHECK(config.data.sources[1].weight == 3);
  const std::string printed = to_yaml(config);
  CHECK(printed.find("  sources:\n    web:\n      path: \"data/web.h5\"") != std::string::npos);
  CHECK(to_yaml(parse_config(printed, "printed.yaml")) == printed);
  const Config added =
      parse_config(kTwoSources, "a.yaml", {"data.sources.x.path=x.h5", "data.sources.x.weight=1"});
  CHECK(added.data.sources.size() == 3);
}

TEST_CASE("errors in sources are one line") {
  const auto error = [](const std::string& data) { return error_with({}, valid_with(data)); };
  CHECK(error("data: {sources: {}}\n").starts_with("a.yaml: data.path: must be the path of"));
  CHECK(error("data: {sources: web.h5}\n") ==
        "a.yaml:11: data.sources: must be a section with one section per source; got web.h5");
  CHECK(error("data: {sources: }\n") ==
        "a.yaml:11: data.sources: must be a section with one section per source; got nothing");
  CHECK(error("data: {sources: {web: a.h5}}\n") ==
        "a.yaml:11: data.sources.web: must be a section; got a.h5");
  CHECK(error("data: {sources: {web: {path: a}}}\n") ==
        "a.yaml: data.sources.web.weight: required; must be above 0");
  CHECK(error("data: {sources: {web: {weight: 1}}}\n") ==
        "a.yaml: data.sources.web.path: required; must be non-empty text");
  CHECK(error("data: {sources: {web: {path: a, weigth: 1}}}\n") ==
        "a.yaml:11: data.sources.web.weigth: unknown key; did you mean data.sources.web.weight?");
  CHECK(error("data: {sources: {a/b: {path: a}}}\n") ==
        "a.yaml:11: data.sources.a/b: must be a name of letters, digits, - and _, at most 64 of "
        "them");
  CHECK(error("data: {sources: {web: {path: a}, web: {path: b}}}\n")
            .starts_with("a.yaml:11: data.sources.web: given twice"));
  CHECK(error("data: {path: b, sources: {web: {path: a, weight: 1}}}\n") ==
        "a.yaml:11: data.path: must be empty, since data.sources names the token sets; got \"b\"");
  CHECK(error_with({"data.sources.=1"}, kTwoSources).find("must be a name") != std::string::npos);
  std::string many = "data:\n  sources:\n";
  for (int i = 0; i < 65; ++i) many += concat("    s", i, ": {path: a, weight: 1}\n");
  CHECK(error(many) == "a.yaml:77: data.sources.s64: must be one of at most 64 sources");
}

TEST_CASE("a resumed run must blend the same sources by the same weights, at any path") {
  const auto config = [](const Overrides& overrides) {
    return parse_config(kTwoSources, "a.yaml", overrides);
  };
  const Config base = config({});
  CHECK(config_digest(config({"data.sources.web.path=moved.h5"})) == config_digest(base));
  const Config heavier = config({"data.sources.web.weight=0.8"});
  CHECK(config_digest(heavier) != config_digest(base));
  using Changes = std::vector<KeyChange>;
  CHECK(changes_between(base, heavier) == Changes{{"data.sources.web.weight", "0.7", "0.8"}});
  const Config more = config({"data.sources.x.path=x.h5", "data.sources.x.weight=1"});
  CHECK(changes_between(base, more) == Changes{{"data.sources.x.weight", "nothing", "1"}});
  CHECK(changes_between(more, base) == Changes{{"data.sources.x.weight", "1", "nothing"}});
  CHECK(changes_between(base, base).empty());
}
