// Configurations: YAML, with overrides in lines that begin with "#+ ".
#include <sstream>

#include "tests/fuzz/target.h"
#include "train/config/changes.h"

namespace smoe::fuzz {
namespace {

const char* const kSmall =
    "run: {name: test}\n"
    "model:\n"
    "  num_layers: 2\n"
    "  d_model: 16\n"
    "  num_heads: 4\n"
    "  num_kv_heads: 2\n"
    "  head_dim: 4\n"
    "  d_expert: 8\n"
    "  num_experts: 4\n"
    "  top_k: 2\n"
    "data: {path: tokens.h5}\n"
    "train: {steps: 10, seq_len: 8, micro_batch: 3, global_batch: 6}\n"
    "#+ optim.lr=0.001\n"
    "#+ train.steps=20\n";

const char* const kSources =
    "run: {name: \"two words\", dir: 'runs'}  # a comment\n"
    "model: {num_layers: 2, d_model: 16, num_heads: 4, num_kv_heads: 2, head_dim: 4,\n"
    "  d_expert: 8, num_experts: 4, top_k: 2, router: {jitter: 1e-2}}\n"
    "data:\n"
    "  sources:\n"
    "    web: {path: a.h5, weight: 3}\n"
    "    books:\n"
    "      path: b.h5\n"
    "      weight: 0.5\n"
    "train:\n"
    "  steps: 10\n"
    "  seq_len: 8\n"
    "  micro_batch: 3\n"
    "  global_batch: 6\n"
    "#+ data.sources.code.path=c.h5\n"
    "#+ data.sources.code.weight=2\n";

std::vector<std::string> overrides_in(const std::string& input) {
  std::vector<std::string> overrides;
  std::istringstream lines(input);
  for (std::string line; std::getline(lines, line);)
    if (line.starts_with("#+ ")) overrides.push_back(line.substr(3));
  return overrides;
}

void read(const std::string& input) {
  const Config config = parse_config(input, "a.yaml", overrides_in(input));
  const std::string yaml = to_yaml(config);
  const Config again = parse_config(yaml, "again.yaml");
  require(to_yaml(again) == yaml, "parses to another configuration after printing:\n", yaml);
  require(config_digest(again) == config_digest(config), "has another digest after printing");
  require(changes_between(config, again).empty(), "has differences after printing");
}

}  // namespace

Target config_target(const Playground& playground) {
  Target target;
  target.seeds = {kSmall, kSources, to_yaml(parse_config(kSmall, "a.yaml")),
                  // Known problems of YAML parsers.
                  "a: &a [x, x]\nb: &b [*a, *a]\nc: &c [*b, *b]\nd: [*c, *c]\n", "a: &a\n  b: *a\n",
                  "x: {<<: {a: 1}}\n", "run: {name: a}\nrun: {name: b}\n", "train: {steps: 010}\n",
                  "run: {name: !!binary aGk=}\n", "--- a\n--- b\n", "? [a]\n: b\n",
                  "run:\n\tname: x\n", "%YAML 9.9\n---\nrun: {}\n",
                  std::string("run: {name: a\0b}\n", 17), "\xef\xbb\xbfrun: {name: a}\n",
                  "\xff\xfer\0u\0n\0"};
  target.dictionary = {"&a ",
                       "*a",
                       "<<: ",
                       "!!str ",
                       "!",
                       "---\n",
                       "...\n",
                       "? ",
                       ": ",
                       "- ",
                       "{",
                       "}",
                       "[",
                       "]",
                       ", ",
                       "a: {",
                       "a:\n ",
                       "#+ ",
                       "#+ a=b",
                       "|\n",
                       ">-\n",
                       "\"",
                       "'",
                       "\\",
                       "\n",
                       "\r\n",
                       "\t",
                       "  ",
                       "%TAG ",
                       "null",
                       "~",
                       "true",
                       "\\x00",
                       "\\u202e",
                       "\\\n",
                       "model.",
                       "data.sources.",
                       "sources:\n",
                       "path: ",
                       "weight: ",
                       "name: ",
                       playground.canary,
                       "path: " + playground.canary + "\n"};
  target.read = read;
  return target;
}

}  // namespace smoe::fuzz
