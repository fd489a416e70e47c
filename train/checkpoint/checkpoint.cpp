#include "train/checkpoint/checkpoint.h"

#include <algorithm>
#include <limits>
#include <unordered_map>

#include "core/base/check.h"
#include "core/host_chunks.h"
#include "core/range.h"
#include "core/system/folder.h"
#include "core/version.h"
#include "train/checkpoint/parse_manifest.h"

namespace smoe {
namespace {

constexpr const char* kManifestName = "manifest.json";

/// Checks that the names of the visited state are valid and unique, and that the ranges of a tensor
/// come in ascending order.
class SeenNames {
 public:
  std::string add(std::string_view name) {
    return add_range(name, 0, std::numeric_limits<std::int64_t>::max());
  }
  std::string add_range(std::string_view name, std::int64_t begin, std::int64_t end) {
    SMOE_CHECK(is_state_name(name), "checkpoint: a state name must be 1 to 256 of ",
               "A-Z a-z 0-9 . _ / -; got '", name, "'");
    const auto [entry, is_new] = ends_.emplace(name, end);
    SMOE_CHECK(is_new || (entry->second <= begin && begin < end),
               "checkpoint: state names must be unique; got ", name, " twice");
    entry->second = end;
    return entry->first;
  }
  bool contains(const std::string& name) const { return ends_.count(name) > 0; }

 private:
  std::unordered_map<std::string, std::int64_t> ends_;  // of the last range of each name
};

/// Writes the ranges that this process visits to a shard file and adds their table to the manifest;
/// writer 0 also writes whole tensors, which all have, and numbers.
class Writer final : public StateVisitor {
 public:
  Writer(Manifest& manifest, File& file, bool is_first)
      : manifest_(manifest), file_(file), is_first_(is_first) {}

  void tensor(std::string_view name, Tensor& value) override {
    const std::string own_name = seen_.add(name);
    if (is_first_) write(own_name, value.shape(), 0, value);
  }
  void range(std::string_view name, const Shape& shape, std::int64_t begin,
             Tensor& elements) override {
    const std::string own_name = seen_.add_range(name, begin, begin + elements.numel());
    if (elements.numel() > 0 || (is_first_ && shape.numel() == 0))
      write(own_name, shape, begin, elements);
  }
  void integer(std::string_view name, std::int64_t& value) override {
    const std::string own_name = seen_.add(name);
    if (is_first_) manifest_.integers[own_name] = value;
  }
  void real(std::string_view name, double& value) override {
    const std::string own_name = seen_.add(name);
    if (is_first_) manifest_.reals[own_name] = value;
  }

 private:
  void write(const std::string& name, const Shape& shape, std::int64_t begin,
             const Tensor& elements) {
    ManifestShard& shard = manifest_.shards.back();
    ManifestTensor entry{.name = name,
                         .dtype = elements.dtype(),
                         .shape = shape,
                         .offset = shard.bytes,
                         .bytes = elements.bytes(),
                         .digest = {},
                         .begin = begin};
    Hasher hasher;
    for_each_host_chunk(elements, [&](std::int64_t offset, const void* data, std::int64_t bytes) {
      file_.write_at(entry.offset + offset, data, bytes);
      hasher.update(data, bytes);
    });
    entry.digest = hasher.digest();
    shard.bytes += entry.bytes;
    shard.tensors.push_back(std::move(entry));
  }

  Manifest& manifest_;
  File& file_;
  bool is_first_;
  SeenNames seen_;
};

std::string describe(DType dtype, const Shape& shape) {
  return concat(name_of(dtype), " ", shape);
}

/// Names for a message: the first few, and the total count.
std::string summarize(const std::vector<std::string>& names) {
  constexpr std::size_t kShown = 3;
  std::string text;
  for (std::size_t i = 0; i < std::min(names.size(), kShown); ++i)
    text += (i ? ", " : "") + names[i];
  return names.size() > kShown ? concat(text, ", ... (", names.size(), " in total)") : text;
}

struct Location {
  const ManifestTensor* entry;
  std::size_t shard;
};
using TensorIndex = std::unordered_map<std::string, std::vector<Location>>;

TensorIndex index_of(const Manifest& manifest) {
  TensorIndex index;
  for (std::size_t i = 0; i < manifest.shards.size(); ++i)
    for (const ManifestTensor& tensor : manifest.shards[i].tensors)
      index[tensor.name].push_back({&tensor, i});
  return index;
}

/// Moments are kept in either, as the run that loads them is configured.
bool converts(DType stored, DType wanted) {
  const auto is_either = [](DType dtype) { return dtype == DType::f32 || dtype == DType::bf16; };
  return stored == wanted || (is_either(stored) && is_either(wanted));
}

/// Compares the names, dtypes and shapes of the state with those of a checkpoint; changes neither.
class Matcher final : public StateVisitor {
 public:
  Matcher(const Manifest& manifest, const TensorIndex& index)
      : manifest_(manifest), index_(index) {}

  void tensor(std::string_view name, Tensor& value) override {
    compare(seen_.add(name), value.dtype(), value.shape());
  }
  void range(std::string_view name, const Shape& shape, std::int64_t begin,
             Tensor& elements) override {
    const bool is_again = seen_.contains(std::string(name));
    const std::string key = seen_.add_range(name, begin, begin + elements.numel());
    if (!is_again) compare(key, elements.dtype(), shape);
  }
  void integer(std::string_view name, std::int64_t&) override { scalar(name, manifest_.integers); }
  void real(std::string_view name, double&) override { scalar(name, manifest_.reals); }

  void check(const std::string& path, bool refuse_extra) const {
    std::string problems;
    const auto add = [&](const char* what, const std::vector<std::string>& names) {
      if (!names.empty()) problems += concat(problems.empty() ? "" : "; ", what, summarize(names));
    };
    add("missing: ", missing_);
    if (refuse_extra) add("unexpected: ", extra());
    add("mismatched: ", mismatched_);
    if (!missing_.empty() && manifest_.base_digest)
      problems +=
          concat("; it leaves out what is in the base with digest ", manifest_.base_digest->hex());
    SMOE_CHECK(problems.empty(), path, ": must match the state of this run; ", problems);
  }

 private:
  void compare(const std::string& name, DType dtype, const Shape& shape) {
    const auto found = index_.find(name);
    if (found == index_.end()) {
      missing_.push_back(name);
      return;
    }
    const ManifestTensor& stored = *found->second.front().entry;
    if (!converts(stored.dtype, dtype) || stored.shape != shape)
      mismatched_.push_back(concat(name, " (expected ", describe(dtype, shape), ", got ",
                                   describe(stored.dtype, stored.shape), ")"));
  }
  template <class Map>
  void scalar(std::string_view name, const Map& map) {
    const std::string key = seen_.add(name);
    if (map.count(key) == 0) missing_.push_back(key);
  }
  std::vector<std::string> extra() const {
    std::vector<std::string> names;
    const auto check = [&](const std::string& name) {
      if (!seen_.contains(name)) names.push_back(name);
    };
    for (const auto& [name, value] : manifest_.integers) check(name);
    for (const auto& [name, value] : manifest_.reals) check(name);
    for (const ManifestShard& shard : manifest_.shards)
      for (const ManifestTensor& tensor : shard.tensors) check(tensor.name);
    names.erase(std::unique(names.begin(), names.end()), names.end());
    return names;
  }

  const Manifest& manifest_;
  const TensorIndex& index_;
  SeenNames seen_;
  std::vector<std::string> missing_, mismatched_;
};

void check_digest(const File& file, const ManifestTensor& entry, Digest found) {
  SMOE_CHECK(found == entry.digest, file.path(), ": tensor ", entry.name,
             " is damaged: its digest must be ", entry.digest.hex(), "; got ", found.hex());
}

Digest digest_in(const File& file, const ManifestTensor& entry) {
  std::string block(static_cast<std::size_t>(std::min(entry.bytes, std::int64_t{1} << 20)), '\0');
  Hasher hasher;
  for (std::int64_t done = 0; done < entry.bytes;) {
    const std::int64_t size = std::min(entry.bytes - done, static_cast<std::int64_t>(block.size()));
    file.read_at(entry.offset + done, block.data(), size);
    hasher.update(block.data(), size);
    done += size;
  }
  return hasher.digest();
}

/// Converts `numel` numbers from f32 to bf16, or from bf16 to f32.
void convert(const void* source, void* target, std::int64_t numel, DType source_dtype) {
  if (source_dtype == DType::f32)
    std::transform(static_cast<const float*>(source), static_cast<const float*>(source) + numel,
                   static_cast<bf16*>(target), [](float value) { return bf16(value); });
  else
    std::copy_n(static_cast<const bf16*>(source), numel, static_cast<float*>(target));
}

/// Loads the visited state, which a Matcher has checked.
class Reader final : public StateVisitor {
 public:
  Reader(const Manifest& manifest, const TensorIndex& index, const std::vector<File>& shards)
      : manifest_(manifest), index_(index), shards_(shards) {}

  void tensor(std::string_view name, Tensor& value) override {
    Tensor elements = value.reshape({value.numel()});
    range(name, value.shape(), 0, elements);
  }
  void range(std::string_view name, const Shape&, std::int64_t begin, Tensor& elements) override {
    for (const Location& location : index_.at(std::string(name))) {
      const ManifestTensor& entry = *location.entry;
      const Range common =
          overlap({begin, begin + elements.numel()}, {entry.begin, entry.begin + entry.numel()});
      const bool is_empty_tensor = entry.numel() == 0 && elements.numel() == 0;
      if (common.numel() == 0 && !is_empty_tensor) continue;
      read(shards_[location.shard], entry, common,
           elements.rows(common.begin - begin, common.end - begin));
    }
  }
  void integer(std::string_view name, std::int64_t& value) override {
    value = manifest_.integers.at(std::string(name));
  }
  void real(std::string_view name, double& value) override {
    value = manifest_.reals.at(std::string(name));
  }

 private:
  /// Reads elements `wanted` of the tensor from an entry that has them, whose digest is checked
  /// whole.
  static void read(const File& file, const ManifestTensor& entry, const Range& wanted,
                   const Tensor& target) {
    const bool is_whole = wanted.numel() == entry.numel();
    if (!is_whole) check_digest(file, entry, digest_in(file, entry));
    const std::int64_t width = size_of(entry.dtype), target_width = size_of(target.dtype());
    const std::int64_t first = entry.offset + (wanted.begin - entry.begin) * width;
    Hasher hasher;
    std::string converted;  // from these bytes, if the dtypes differ
    fill_by_host_chunks(target, [&](std::int64_t offset, void* data, std::int64_t bytes) {
      const bool is_same = target.dtype() == entry.dtype;
      const std::int64_t at = offset / target_width * width, size = bytes / target_width * width;
      if (!is_same) converted.resize(static_cast<std::size_t>(size));
      void* const stored = is_same ? data : converted.data();
      file.read_at(first + at, stored, size);
      hasher.update(stored, size);
      if (!is_same) convert(stored, data, bytes / target_width, entry.dtype);
    });
    if (is_whole) check_digest(file, entry, hasher.digest());
  }

  const Manifest& manifest_;
  const TensorIndex& index_;
  const std::vector<File>& shards_;
};

Manifest manifest_of(const CheckpointHeader& header) {
  Manifest manifest;
  manifest.step = header.step;
  manifest.build = "smoe " SMOE_VERSION ", compiler " __VERSION__;
  manifest.device = header.device;
  manifest.config_digest = header.config;
  manifest.data_digest = header.data;
  manifest.tokenizer_digest = header.tokenizer;
  manifest.base_digest = header.base;
  manifest.processor = header.processor;
  manifest.config = header.config_text;
  manifest.data = header.sampling;
  manifest.shards.push_back({shard_name(0), 0, {}});
  return manifest;
}

void write_shard(const std::string& path, const VisitState& visit, const ShardWriters& writers,
                 Manifest& manifest) {
  File shard = File::create(path + "/" + shard_name(writers.index));
  Writer writer(manifest, shard, writers.index == 0);
  visit(writer);
  shard.sync();
  shard.close();
}

/// The file in which a writer other than 0 leaves the manifest of its own shard, which writer 0
/// merges into the manifest of the checkpoint. It has this name once it is complete.
std::string shard_manifest_path(const std::string& path, int index) {
  return path + "/" + shard_name(index) + ".json";
}

void write_durably(const std::string& path, const std::string& text) {
  SMOE_CHECK(static_cast<std::int64_t>(text.size()) <= kMaxManifestBytes,
             "checkpoint: a manifest must have at most ", kMaxManifestBytes, " bytes; got ",
             text.size());
  File file = File::create(path);
  file.write_at(0, text.data(), static_cast<std::int64_t>(text.size()));
  file.sync();
  file.close();
}

}  // namespace

void write_checkpoint(const std::string& path, const CheckpointHeader& header,
                      const VisitState& visit, const ShardWriters& writers) {
  if (writers.count == 1) make_new_folder(path);
  Manifest manifest = manifest_of(header);
  write_shard(path, visit, writers, manifest);
  if (writers.index > 0) {
    const std::string own_path = shard_manifest_path(path, writers.index);
    write_durably(own_path + ".part", manifest_text(manifest));
    rename_path(own_path + ".part", own_path);
  }
  writers.await_others([&] {
    for (int i = 1; i < writers.count; ++i)
      if (kind_of(shard_manifest_path(path, i)) == PathKind::none) return false;
    return true;
  });
  if (writers.index > 0) return;
  for (int i = 1; i < writers.count; ++i) {
    const std::string other_path = shard_manifest_path(path, i);
    Manifest other = parse_manifest(read_file(other_path, kMaxManifestBytes), other_path,
                                    ManifestCoverage::part);
    manifest.shards.push_back(std::move(other.shards.front()));
    manifest.shards.back().file = shard_name(i);
    remove_file(other_path);
  }
  manifest.world_size = writers.count;
  write_durably(path + "/" + kManifestName, manifest_text(manifest));
  sync_folder(path);
}

Checkpoint::Checkpoint(const std::string& path) : path_(path) {
  SMOE_CHECK(kind_of(path) == PathKind::folder, path, ": must be a checkpoint folder");
  const std::vector<FolderEntry> entries = list_folder(path);
  // Only regular files of this folder are opened: a link could lead anywhere.
  const auto regular_file = [&](const std::string& name) -> const FolderEntry& {
    const auto found = std::find_if(entries.begin(), entries.end(),
                                    [&](const FolderEntry& entry) { return entry.name == name; });
    SMOE_CHECK(found != entries.end(), path, "/", name, ": is missing");
    SMOE_CHECK(found->kind == PathKind::file && !found->is_link, path, "/", name,
               ": must be a regular file, not a link");
    return *found;
  };
  regular_file(kManifestName);
  const std::string manifest_path = path + "/" + kManifestName;
  manifest_ = parse_manifest(read_file(manifest_path, kMaxManifestBytes), manifest_path);
  for (const ManifestShard& shard : manifest_.shards) {
    const FolderEntry& entry = regular_file(shard.file);
    SMOE_CHECK(entry.bytes == shard.bytes, path, "/", shard.file, ": must have ", shard.bytes,
               " bytes; got ", entry.bytes);
    shards_.push_back(File::open(path + "/" + shard.file));
  }
}

std::int64_t Checkpoint::bytes() const {
  std::int64_t total = 0;
  for (const ManifestShard& shard : manifest_.shards) total += shard.bytes;
  return total;
}

void Checkpoint::check_config(const std::string& path, const Digest& config,
                              bool is_same_run) const {
  SMOE_CHECK(config == manifest_.config_digest || is_same_run, path,
             ": is not the configuration of ", path_, ": config digest must be ",
             manifest_.config_digest.hex(), "; got ", config.hex(), "; restore the file");
}

void Checkpoint::verify() const {
  for (std::size_t i = 0; i < shards_.size(); ++i)
    for (const ManifestTensor& entry : manifest_.shards[i].tensors)
      check_digest(shards_[i], entry, digest_in(shards_[i], entry));
}

void Checkpoint::load(const VisitState& visit, Coverage coverage) const {
  const TensorIndex index = index_of(manifest_);
  Matcher matcher(manifest_, index);
  visit(matcher);
  matcher.check(path_, coverage == Coverage::all);
  Reader reader(manifest_, index, shards_);
  visit(reader);
}

}  // namespace smoe
