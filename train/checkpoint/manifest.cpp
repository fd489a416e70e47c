#include "train/checkpoint/manifest.h"

#include <fmt/format.h>

#include <charconv>
#include <nlohmann/json.hpp>

namespace smoe {
namespace {

using Json = nlohmann::json;

std::string real_text(double value) {
  char text[40];
  const auto end = std::to_chars(std::begin(text), std::end(text), value).ptr;
  return {text, end};
}

std::string json_string(std::string_view text) {
  return Json(text).dump();
}

/// `items` rendered by `line`, one per line, between `open` and `close`.
template <class Items, class Line>
std::string block(char open, const Items& items, char close, Line&& line) {
  std::string text(1, open);
  const char* separator = "\n";
  for (const auto& item : items) {
    text += separator;
    text += line(item);
    separator = ",\n";
  }
  text += '\n';
  text += close;
  return text;
}

std::string tensor_text(const ManifestTensor& tensor) {
  std::vector<std::int64_t> sizes(tensor.shape.rank());
  for (int i = 0; i < tensor.shape.rank(); ++i) sizes[i] = tensor.shape[i];
  return fmt::format(
      R"({{"name": {}, "dtype": "{}", "shape": {}, "begin": {}, "offset": {}, "bytes": {}, )"
      R"("digest": "{}"}})",
      json_string(tensor.name), name_of(tensor.dtype), Json(sizes).dump(), tensor.begin,
      tensor.offset, tensor.bytes, tensor.digest.hex());
}

std::string source_text(const ManifestSource& source) {
  return fmt::format(R"({{"name": {}, "digest": "{}", "samples": {}}})", json_string(source.name),
                     source.digest.hex(), source.samples);
}

std::string data_text(const ManifestData& data) {
  return fmt::format(R"({{"step": {}, "batch": {}, "tokens": {}, "sources": {}}})", data.step,
                     data.batch, data.tokens, block('[', data.sources, ']', source_text));
}

std::string shard_text(const ManifestShard& shard) {
  return fmt::format(R"({{"file": {}, "bytes": {}, "tensors": {}}})", json_string(shard.file),
                     shard.bytes, block('[', shard.tensors, ']', tensor_text));
}

}  // namespace

std::string shard_name(std::int64_t index) {
  return fmt::format("shard-{:05}.bin", index);
}

bool is_state_name(std::string_view name) {
  constexpr std::string_view kAllowed =
      "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._/-";
  return !name.empty() && name.size() <= 256 &&
         name.find_first_not_of(kAllowed) == std::string_view::npos;
}

std::string manifest_seal(Digest digest) {
  return "\"manifest_digest\": \"" + digest.hex() + "\"\n}\n";
}

std::string manifest_text(const Manifest& manifest) {
  std::string text = "{\n";
  const auto add = [&](const char* key, const std::string& value) {
    text += concat("\"", key, "\": ", value, ",\n");
  };
  add("format", json_string(kManifestFormat));
  add("version", std::to_string(kManifestVersion));
  add("step", std::to_string(manifest.step));
  add("world_size", std::to_string(manifest.world_size));
  add("build", json_string(manifest.build));
  add("device", json_string(manifest.device));
  if (!manifest.processor.empty()) add("processor", json_string(manifest.processor));
  add("config_digest", json_string(manifest.config_digest.hex()));
  add("data_digest", json_string(manifest.data_digest.hex()));
  if (manifest.tokenizer_digest)
    add("tokenizer_digest", json_string(manifest.tokenizer_digest->hex()));
  if (manifest.base_digest) add("base_digest", json_string(manifest.base_digest->hex()));
  if (!manifest.config.empty()) add("config", json_string(manifest.config));
  if (manifest.data) add("data", data_text(*manifest.data));
  add("integers", block('{', manifest.integers, '}', [](const auto& item) {
        return concat(json_string(item.first), ": ", item.second);
      }));
  add("reals", block('{', manifest.reals, '}', [](const auto& item) {
        return concat(json_string(item.first), ": ", json_string(real_text(item.second)));
      }));
  add("shards", block('[', manifest.shards, ']', shard_text));
  return text + manifest_seal(digest_of(text));
}

}  // namespace smoe
