#include "train/checkpoint/parse_manifest.h"

#include <algorithm>
#include <charconv>
#include <limits>
#include <nlohmann/json.hpp>
#include <set>
#include <tuple>

#include "core/base/check.h"
#include "core/system/json_reader.h"
#include "core/system/text.h"
#include "train/checkpoint/json_shape.h"

namespace smoe {
namespace {

using Json = nlohmann::json;

constexpr std::size_t kMaxShards = 100'000;  // what the digits of shard_name can express
constexpr std::size_t kMaxSources = 1000;
constexpr std::size_t kMaxDepth = 8;  // the format needs 6
constexpr DType kDTypes[] = {DType::f32, DType::f64, DType::bf16, DType::i32,
                             DType::i64, DType::u16, DType::u8};

Digest read_digest(ObjectReader& reader, const char* key) {
  const std::string& text = reader.string(key);
  try {
    return Digest::from_hex(text);
  } catch (const UsageError&) {
    throw UsageError(
        concat(reader.place_of(key), ": must be 32 hexadecimal digits; got ", printable(text)));
  }
}

DType read_dtype(ObjectReader& reader) {
  const std::string& text = reader.string("dtype");
  const auto found = std::find_if(std::begin(kDTypes), std::end(kDTypes),
                                  [&](DType dtype) { return text == name_of(dtype); });
  SMOE_CHECK(found != std::end(kDTypes), reader.place_of("dtype"), ": unknown; got ",
             printable(text));
  return *found;
}

ManifestTensor read_tensor(const Json& object, const std::string& place, std::int64_t version,
                           std::int64_t offset, std::int64_t end) {
  ObjectReader reader(object, place);
  ManifestTensor tensor;
  tensor.name = reader.string("name");
  SMOE_CHECK(is_state_name(tensor.name), reader.place_of("name"),
             ": must be 1 to 256 of A-Z a-z 0-9 . _ / -; got ", printable(tensor.name));
  tensor.dtype = read_dtype(reader);
  tensor.shape = read_shape(reader, "shape", size_of(tensor.dtype));
  const std::int64_t numel = tensor.shape.numel(), size = size_of(tensor.dtype);
  if (version >= 2) tensor.begin = reader.integer("begin", 0, numel);
  tensor.offset = reader.integer("offset", offset, offset);
  const std::int64_t most = (numel - tensor.begin) * size;
  tensor.bytes = reader.integer("bytes", version >= 2 ? 0 : most, most);
  SMOE_CHECK(tensor.bytes % size == 0, reader.place_of("bytes"), ": must be a multiple of ", size,
             "; got ", tensor.bytes);
  SMOE_CHECK(tensor.bytes <= end - offset, place, ": must end inside its shard, which has ",
             end - offset, " bytes left; got ", tensor.bytes);
  tensor.digest = read_digest(reader, "digest");
  reader.finish();
  return tensor;
}

ManifestShard read_shard(const Json& object, const std::string& place, std::int64_t version,
                         std::size_t index) {
  ObjectReader reader(object, place);
  ManifestShard shard;
  const std::string& file = reader.string("file");
  shard.file = shard_name(static_cast<std::int64_t>(index));
  SMOE_CHECK(file == shard.file, reader.place_of("file"), ": must be ", shard.file, "; got ",
             printable(file));
  shard.bytes = reader.integer("bytes", 0, kMaxInt64);
  const Json& tensors = reader.array("tensors");
  reader.finish();
  std::int64_t offset = 0;
  for (std::size_t i = 0; i < tensors.size(); ++i) {
    shard.tensors.push_back(
        read_tensor(tensors[i], concat(place, ": tensors[", i, "]"), version, offset, shard.bytes));
    offset += shard.tensors.back().bytes;
  }
  SMOE_CHECK(offset == shard.bytes, place, ": its tensors must cover ", shard.bytes, " bytes; got ",
             offset);
  return shard;
}

ManifestData read_data(const Json& object, const std::string& place) {
  ObjectReader reader(object, place);
  ManifestData data;
  data.step = reader.integer("step", 0, kMaxInt64);
  data.batch = reader.integer("batch", 0, kMaxInt64);
  data.tokens = reader.integer("tokens", 0, kMaxInt64);
  const Json& sources = reader.array("sources");
  reader.finish();
  SMOE_CHECK(!sources.empty() && sources.size() <= kMaxSources, reader.place_of("sources"),
             ": must contain 1 to ", kMaxSources, "; got ", sources.size());
  for (std::size_t i = 0; i < sources.size(); ++i) {
    ObjectReader source(sources[i], concat(place, ": sources[", i, "]"));
    data.sources.push_back({.name = source.string("name"),
                            .digest = read_digest(source, "digest"),
                            .samples = source.integer("samples", 0, kMaxInt64)});
    source.finish();
  }
  return data;
}

double read_real(const Json& value, const std::string& place) {
  const std::string text = value.is_string() ? value.get<std::string>() : "";
  double real = 0;
  const char* end = text.data() + text.size();
  const auto [stop, error] = std::from_chars(text.data(), end, real);
  SMOE_CHECK(!text.empty() && stop == end && error == std::errc(), place,
             ": must be a real number in quotes; got ", shown(value));
  return real;
}

/// Checks that the entries of each tensor agree, and that they hold each element once; in a
/// manifest that covers only a part, at most once.
void check_ranges(std::vector<const ManifestTensor*> entries, const std::string& path,
                  ManifestCoverage coverage) {
  std::sort(entries.begin(), entries.end(), [](const ManifestTensor* a, const ManifestTensor* b) {
    return std::tie(a->name, a->begin, a->bytes) < std::tie(b->name, b->begin, b->bytes);
  });
  const bool is_whole = coverage == ManifestCoverage::whole;
  for (std::size_t i = 0; i < entries.size();) {
    const ManifestTensor& first = *entries[i];
    std::int64_t end = is_whole ? 0 : first.begin;
    const std::size_t first_index = i;
    for (; i < entries.size() && entries[i]->name == first.name; ++i) {
      const ManifestTensor& entry = *entries[i];
      SMOE_CHECK(entry.dtype == first.dtype && entry.shape == first.shape, path,
                 ": all entries of a tensor must have one dtype and shape; got ", entry.name,
                 " with others");
      const bool is_repeated = i > first_index && (entry.begin < end || entry.numel() == 0);
      SMOE_CHECK(!is_repeated && (!is_whole || entry.begin == end), path,
                 ": the entries of a tensor must hold each element once; got ", entry.name,
                 " with elements ", entry.begin, " to ", entry.begin + entry.numel(), " after ",
                 end);
      end = entry.begin + entry.numel();
    }
    SMOE_CHECK(!is_whole || end == first.shape.numel(), path,
               ": the entries of a tensor must hold each element once; got ", end, " of the ",
               first.shape.numel(), " of ", first.name);
  }
}

void check_names(const Manifest& manifest, const std::string& path, ManifestCoverage coverage) {
  std::vector<const ManifestTensor*> entries;
  std::set<std::string_view> tensors;
  for (const ManifestShard& shard : manifest.shards)
    for (const ManifestTensor& tensor : shard.tensors) {
      entries.push_back(&tensor);
      tensors.insert(tensor.name);
    }
  check_ranges(std::move(entries), path, coverage);
  std::vector<std::string_view> names(tensors.begin(), tensors.end());
  for (const auto& [name, value] : manifest.integers) names.push_back(name);
  for (const auto& [name, value] : manifest.reals) names.push_back(name);
  for (const std::string_view name : names)
    SMOE_CHECK(is_state_name(name), path, ": a name must be 1 to 256 of A-Z a-z 0-9 . _ / -; got ",
               printable(name));
  std::sort(names.begin(), names.end());
  const auto repeated = std::adjacent_find(names.begin(), names.end());
  SMOE_CHECK(repeated == names.end(), path, ": names must be unique; got ", *repeated, " twice");
}

/// Checks that `text` has not changed since it was sealed.
void check_seal(std::string_view text, const std::string& path) {
  const std::size_t seal_size = manifest_seal({}).size();
  SMOE_CHECK(text.size() > seal_size, path, ": must end with its digest; got ", text.size(),
             " bytes");
  const std::string_view body = text.substr(0, text.size() - seal_size);
  const std::string_view found = text.substr(body.size());
  const std::string expected = manifest_seal(digest_of(body));
  SMOE_CHECK(found == expected, path, ": is damaged: its digest must be ", digest_of(body).hex(),
             "; its last line says ", printable(found));
}

}  // namespace

Manifest parse_manifest(std::string_view text, const std::string& path, ManifestCoverage coverage) {
  check_seal(text, path);
  const Json json = parse_json(text, path, kMaxDepth);
  ObjectReader reader(json, path);
  const std::string& format = reader.string("format");
  SMOE_CHECK(format == kManifestFormat, reader.place_of("format"), ": must be ", kManifestFormat,
             "; got ", printable(format));
  const std::int64_t version = reader.integer("version", 1, kMaxInt64);
  if (version > kManifestVersion)
    throw OtherVersionError(concat(path, ": has format version ", version,
                                   "; this program reads versions up to ", kManifestVersion));
  Manifest manifest;
  manifest.step = reader.integer("step", 0, kMaxInt64);
  manifest.world_size = reader.integer("world_size", 1, kMaxInt64);
  manifest.build = reader.string("build");
  manifest.device = reader.string("device");
  if (reader.has("processor")) manifest.processor = reader.string("processor");
  manifest.config_digest = read_digest(reader, "config_digest");
  manifest.data_digest = read_digest(reader, "data_digest");
  if (reader.has("tokenizer_digest"))
    manifest.tokenizer_digest = read_digest(reader, "tokenizer_digest");
  if (version >= 2 && reader.has("base_digest"))
    manifest.base_digest = read_digest(reader, "base_digest");
  if (reader.has("config")) manifest.config = reader.string("config");
  if (reader.has("data")) manifest.data = read_data(reader.object("data"), path + ": data");
  read_digest(reader, "manifest_digest");
  for (const auto& [name, value] : reader.object("integers").items())
    manifest.integers[name] = checked_integer(value, path + ": integers",
                                              std::numeric_limits<std::int64_t>::min(), kMaxInt64);
  for (const auto& [name, value] : reader.object("reals").items())
    manifest.reals[name] = read_real(value, path + ": reals");
  const Json& shards = reader.array("shards");
  SMOE_CHECK(!shards.empty() && shards.size() <= kMaxShards, reader.place_of("shards"),
             ": must contain 1 to ", kMaxShards, "; got ", shards.size());
  for (std::size_t i = 0; i < shards.size(); ++i)
    manifest.shards.push_back(read_shard(shards[i], concat(path, ": shards[", i, "]"), version, i));
  reader.finish();
  check_names(manifest, path, coverage);
  return manifest;
}

}  // namespace smoe
