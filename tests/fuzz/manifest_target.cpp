// Manifests of checkpoints.
#include <cmath>
#include <limits>

#include "tests/fuzz/target.h"
#include "train/checkpoint/parse_manifest.h"

namespace smoe::fuzz {
namespace {

Manifest sample() {
  Manifest manifest;
  manifest.step = 1234;
  manifest.build = "smoe \"1\"\n";
  manifest.device = "cpu";
  manifest.config_digest = {1, 2};
  manifest.data_digest = {3, 4};
  manifest.integers = {{"a.step", -5}, {"b", std::numeric_limits<std::int64_t>::max()}};
  manifest.reals = {{"nan", std::nan("")}, {"x", 0.1}, {"inf", HUGE_VAL}};
  manifest.shards = {{"shard-00000.bin",
                      32,
                      {{"w", DType::f32, {2, 3}, 0, 24, {5, 6}},
                       {"empty", DType::bf16, {0, 7}, 24, 0, {7, 8}},
                       {"scalar", DType::f64, {}, 24, 8, {9, 10}}}},
                     {"shard-00001.bin", 6, {{"v", DType::u16, {1, 5, 1, 1}, 0, 6, {5, 6}}}},
                     {"shard-00002.bin", 4, {{"v", DType::u16, {1, 5, 1, 1}, 0, 4, {5, 6}, 3}}}};
  return manifest;
}

std::string repair(std::string text) {
  const std::size_t seal = text.rfind("\"manifest_digest\"");
  if (seal != std::string::npos) text.resize(seal);
  return text + manifest_seal(digest_of(text));
}

void read(const std::string& input) {
  const Manifest manifest = parse_manifest(input, "manifest.json");
  for (const ManifestShard& shard : manifest.shards) {
    std::int64_t end = 0;
    for (const ManifestTensor& tensor : shard.tensors) {
      require(tensor.offset == end && tensor.bytes >= 0, tensor.name, ": leaves a gap");
      require(tensor.bytes % size_of(tensor.dtype) == 0 &&
                  tensor.begin + tensor.numel() <= tensor.shape.numel(),
              tensor.name, ": another size");
      end += tensor.bytes;
    }
    require(end == shard.bytes, shard.file, ": differs in size from its tensors");
    require(shard.file.find('/') == std::string::npos, "a file outside the folder: ", shard.file);
  }
  const std::string text = manifest_text(manifest);
  require(manifest_text(parse_manifest(text, "again")) == text,
          "parses to another manifest after printing");
}

}  // namespace

Target manifest_target(const Playground& playground) {
  Target target;
  target.seeds = {manifest_text(sample())};
  Manifest least;
  least.shards = {{"shard-00000.bin", 0, {}}};
  target.seeds.push_back(manifest_text(least));
  target.dictionary = {"{",
                       "}",
                       "[",
                       "]",
                       ",",
                       ":",
                       "\"",
                       "\\u0000",
                       "\\ud800",
                       "null",
                       "true",
                       "\"step\"",
                       "{\"a\":",
                       "[[",
                       "\"shape\": [",
                       "\"offset\": ",
                       "\"bytes\": ",
                       "\"integers\": {",
                       "\"dtype\": \"f32\"",
                       "shard-00000.bin",
                       "../" + playground.canary,
                       "\"" + playground.canary + "\"",
                       "1e5",
                       "\xff",
                       "\n"};
  target.read = read;
  target.repair = repair;
  return target;
}

}  // namespace smoe::fuzz
