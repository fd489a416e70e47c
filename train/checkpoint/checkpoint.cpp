#include "train/checkpoint/checkpoint.h"

#include <algorithm>
#include <unordered_map>
#include <unordered_set>

#include "core/base/check.h"
#include "core/host_chunks.h"
#include "core/system/folder.h"
#include "core/version.h"
#include "train/checkpoint/parse_manifest.h"

namespace smoe {
namespace {

constexpr const char* kManifestName = "manifest.json";

/// Checks that the names of the visited state are valid and unique.
class SeenNames {
 public:
  std::string add(std::string_view name) {
    SMOE_CHECK(is_state_name(name), "checkpoint: a state name must be 1 to 256 of ",
               "A-Z a-z 0-9 . _ / -; got '", name, "'");
    const auto [entry, is_new] = names_.emplace(name);
    SMOE_CHECK(is_new, "checkpoint: state names must be unique; got ", name, " twice");
    return *entry;
  }
  bool contains(const std::string& name) const { return names_.count(name) > 0; }

 private:
  std::unordered_set<std::string> names_;
};

/// Writes this process's share of the visited tensors to a shard file and adds their table to the
/// manifest; the manifest of writer 0 also contains the scalars.
class Writer final : public StateVisitor {
 public:
  Writer(Manifest& manifest, File& file, const ShardWriters& writers)
      : manifest_(manifest), file_(file), index_(writers.index), bytes_of_(writers.count) {}

  void tensor(std::string_view name, Tensor& value) override {
    const std::string own_name = seen_.add(name);
    // The writer with the fewest bytes so far takes the tensor; all writers visit the same tensors
    // and therefore choose alike.
    const auto least = std::min_element(bytes_of_.begin(), bytes_of_.end());
    *least += value.bytes();
    if (least - bytes_of_.begin() != index_) return;
    ManifestShard& shard = manifest_.shards.back();
    ManifestTensor entry{own_name, value.dtype(), value.shape(), shard.bytes, value.bytes(), {}};
    Hasher hasher;
    for_each_host_chunk(value, [&](std::int64_t offset, const void* data, std::int64_t bytes) {
      file_.write_at(entry.offset + offset, data, bytes);
      hasher.update(data, bytes);
    });
    entry.digest = hasher.digest();
    shard.bytes += entry.bytes;
    shard.tensors.push_back(std::move(entry));
  }
  void integer(std::string_view name, std::int64_t& value) override {
    const std::string own_name = seen_.add(name);
    if (index_ == 0) manifest_.integers[own_name] = value;
  }
  void real(std::string_view name, double& value) override {
    const std::string own_name = seen_.add(name);
    if (index_ == 0) manifest_.reals[own_name] = value;
  }

 private:
  Manifest& manifest_;
  File& file_;
  std::ptrdiff_t index_;
  std::vector<std::int64_t> bytes_of_;  // assigned to each writer so far
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
using TensorIndex = std::unordered_map<std::string, Location>;

TensorIndex index_of(const Manifest& manifest) {
  TensorIndex index;
  for (std::size_t i = 0; i < manifest.shards.size(); ++i)
    for (const ManifestTensor& tensor : manifest.shards[i].tensors)
      index[tensor.name] = {&tensor, i};
  return index;
}

/// Compares the names, dtypes and shapes of the state with those of a checkpoint; changes neither.
class Matcher final : public StateVisitor {
 public:
  Matcher(const Manifest& manifest, const TensorIndex& index)
      : manifest_(manifest), index_(index) {}

  void tensor(std::string_view name, Tensor& value) override {
    const std::string key = seen_.add(name);
    const auto found = index_.find(key);
    if (found == index_.end()) {
      missing_.push_back(key);
      return;
    }
    const std::string stored = describe(found->second.entry->dtype, found->second.entry->shape);
    const std::string expected = describe(value.dtype(), value.shape());
    if (stored != expected)
      mismatched_.push_back(concat(key, " (expected ", expected, ", got ", stored, ")"));
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
    SMOE_CHECK(problems.empty(), path, ": must match the state of this run; ", problems);
  }

 private:
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

/// Loads the visited state, which a Matcher has checked.
class Reader final : public StateVisitor {
 public:
  Reader(const Manifest& manifest, const TensorIndex& index, const std::vector<File>& shards)
      : manifest_(manifest), index_(index), shards_(shards) {}

  void tensor(std::string_view name, Tensor& value) override {
    const Location& location = index_.at(std::string(name));
    const ManifestTensor& entry = *location.entry;
    const File& file = shards_[location.shard];
    Hasher hasher;
    fill_by_host_chunks(value, [&](std::int64_t offset, void* data, std::int64_t bytes) {
      file.read_at(entry.offset + offset, data, bytes);
      hasher.update(data, bytes);
    });
    check_digest(file, entry, hasher.digest());
  }
  void integer(std::string_view name, std::int64_t& value) override {
    value = manifest_.integers.at(std::string(name));
  }
  void real(std::string_view name, double& value) override {
    value = manifest_.reals.at(std::string(name));
  }

 private:
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
  manifest.processor = header.processor;
  manifest.config = header.config_text;
  manifest.data = header.sampling;
  manifest.shards.push_back({shard_name(0), 0, {}});
  return manifest;
}

void write_shard(const std::string& path, const VisitState& visit, const ShardWriters& writers,
                 Manifest& manifest) {
  File shard = File::create(path + "/" + shard_name(writers.index));
  Writer writer(manifest, shard, writers);
  visit(writer);
  shard.sync();
  shard.close();
}

/// The file in which a writer other than 0 leaves the manifest of its own shard, which writer 0
/// merges into the manifest of the checkpoint.
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
  const bool is_first = writers.index == 0;
  if (is_first) make_new_folder(path);
  writers.barrier();
  Manifest manifest = manifest_of(header);
  write_shard(path, visit, writers, manifest);
  if (!is_first) write_durably(shard_manifest_path(path, writers.index), manifest_text(manifest));
  writers.barrier();
  if (!is_first) return;
  for (int i = 1; i < writers.count; ++i) {
    const std::string other_path = shard_manifest_path(path, i);
    Manifest other = parse_manifest(read_file(other_path, kMaxManifestBytes), other_path);
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
  std::string block(std::size_t{1} << 20, '\0');
  for (std::size_t i = 0; i < shards_.size(); ++i) {
    for (const ManifestTensor& entry : manifest_.shards[i].tensors) {
      Hasher hasher;
      for (std::int64_t done = 0; done < entry.bytes;) {
        const std::int64_t size =
            std::min(entry.bytes - done, static_cast<std::int64_t>(block.size()));
        shards_[i].read_at(entry.offset + done, block.data(), size);
        hasher.update(block.data(), size);
        done += size;
      }
      check_digest(shards_[i], entry, hasher.digest());
    }
  }
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
