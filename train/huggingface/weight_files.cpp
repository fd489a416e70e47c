#include "train/huggingface/weight_files.h"

#include <fmt/format.h>

#include <nlohmann/json.hpp>
#include <set>

#include "core/system/folder.h"
#include "core/system/json_reader.h"
#include "core/system/text.h"

namespace smoe {
namespace {

using Json = nlohmann::json;

constexpr const char* kSingleName = "model.safetensors";
constexpr const char* kIndexName = "model.safetensors.index.json";
constexpr std::int64_t kMaxIndexBytes = std::int64_t{64} << 20;
constexpr std::size_t kMaxIndexDepth = 4;
constexpr std::size_t kMaxFiles = 4096;

const std::map<std::string, std::string> kMetadata = {
    {"format", "pt"}};  // transformers requires it

/// Whether an index may name this file: it must be in the folder of the index.
bool is_shard_name(const std::string& name) {
  constexpr std::size_t kMaxBytes = 255;  // of a file name
  return name.ends_with(".safetensors") && name.size() <= kMaxBytes &&
         name.find('/') == std::string::npos && name.find('\0') == std::string::npos &&
         !name.starts_with('.');
}

/// Maps tensors to files.
std::map<std::string, std::string> read_weight_map(const std::string& path) {
  const Json json = parse_json(read_file(path, kMaxIndexBytes), path, kMaxIndexDepth);
  ObjectReader reader(json, path);
  std::map<std::string, std::string> map;
  for (const auto& [tensor, file] : reader.object("weight_map").items()) {
    const bool is_name = file.is_string() && is_shard_name(file.get<std::string>());
    SMOE_CHECK(is_name, reader.place_of("weight_map"), ": ", printable(tensor),
               ": must be a file NAME.safetensors of this folder; got ", shown(file));
    map[tensor] = file.get<std::string>();
  }
  return map;
}

std::vector<std::vector<ParameterPart>> split(const std::vector<ParameterPart>& tensors,
                                              DType dtype, std::int64_t max_shard_bytes) {
  std::vector<std::vector<ParameterPart>> shards(1);
  std::int64_t bytes = 0;
  for (const ParameterPart& tensor : tensors) {
    const std::int64_t more = tensor.shape.numel() * size_of(dtype);
    if (bytes + more > max_shard_bytes && !shards.back().empty()) {
      shards.emplace_back();
      bytes = 0;
    }
    shards.back().push_back(tensor);
    bytes += more;
  }
  return shards;
}

}  // namespace

WeightFiles::WeightFiles(const std::string& folder) : folder_(folder) {
  const std::string single = folder + "/" + kSingleName, index = folder + "/" + kIndexName;
  if (kind_of(single) == PathKind::file) {
    add_file(single);
    return;
  }
  SMOE_CHECK(kind_of(index) == PathKind::file, folder, ": must hold ", kSingleName, " or ",
             kIndexName, "; other weight formats are not supported");
  add_shards(folder, index);
}

void WeightFiles::add_file(const std::string& path) {
  files_.emplace_back(path);
  for (const SafetensorsEntry& entry : files_.back().entries()) {
    const auto [earlier, is_new] = index_.emplace(entry.name, Place{files_.size() - 1, &entry});
    SMOE_CHECK(is_new, path, ": ", printable(entry.name), ": must occur once; it is in ",
               files_[earlier->second.file].path(), " too");
  }
}

void WeightFiles::add_shards(const std::string& folder, const std::string& index_path) {
  const std::map<std::string, std::string> map = read_weight_map(index_path);
  std::set<std::string> names;
  for (const auto& [tensor, file] : map) names.insert(file);
  SMOE_CHECK(!names.empty() && names.size() <= kMaxFiles, index_path, ": weight_map: must name 1 ",
             "to ", kMaxFiles, " files; got ", names.size());
  files_.reserve(names.size());  // entries point into them
  for (const std::string& name : names) add_file(folder + "/" + name);
  for (const auto& [tensor, file] : map) {
    const auto found = index_.find(tensor);
    SMOE_CHECK(found != index_.end() && files_[found->second.file].path() == folder + "/" + file,
               index_path, ": weight_map: ", printable(tensor), " is not in ", file);
  }
  for (const auto& [tensor, place] : index_)
    SMOE_CHECK(map.count(tensor) > 0, files_[place.file].path(), ": ", printable(tensor),
               " is not in the weight_map of ", index_path);
}

std::int64_t WeightFiles::bytes() const {
  std::int64_t sum = 0;
  for (const auto& [name, place] : index_) sum += place.entry->bytes;
  return sum;
}

std::vector<std::string> WeightFiles::names() const {
  std::vector<std::string> names;
  for (const auto& [name, place] : index_) names.push_back(name);
  return names;
}

const SafetensorsEntry* WeightFiles::find(const std::string& name) const {
  const auto found = index_.find(name);
  return found == index_.end() ? nullptr : found->second.entry;
}

Tensor WeightFiles::read(const std::string& name, DType dtype) const {
  const auto found = index_.find(name);
  SMOE_CHECK(found != index_.end(), folder_, ": has no tensor ", name);
  return files_[found->second.file].read(*found->second.entry, dtype);
}

WeightFilesWriter::WeightFilesWriter(const std::string& folder,
                                     const std::vector<ParameterPart>& tensors, DType dtype,
                                     std::int64_t max_shard_bytes)
    : folder_(folder), dtype_(dtype), shards_(split(tensors, dtype, max_shard_bytes)) {
  for (const ParameterPart& tensor : tensors) bytes_ += tensor.shape.numel() * size_of(dtype);
}

std::string WeightFilesWriter::file_name(std::size_t shard) const {
  if (shards_.size() == 1) return kSingleName;
  return fmt::format("model-{:05}-of-{:05}.safetensors", shard + 1, shards_.size());
}

void WeightFilesWriter::write(const std::string& name, const Tensor& tensor) {
  SMOE_CHECK(shard_ < shards_.size(), folder_, ": ", name, " must be one of the declared tensors");
  const std::vector<ParameterPart>& tensors = shards_[shard_];
  if (!writer_) writer_.emplace(folder_ + "/" + file_name(shard_), tensors, dtype_, kMetadata);
  writer_->write(name, tensor);
  if (++num_written_ < tensors.size()) return;
  writer_->commit();
  writer_.reset();
  num_written_ = 0;
  ++shard_;
}

void WeightFilesWriter::finish() {
  SMOE_CHECK(shard_ == shards_.size(), folder_, ": ", file_name(shard_), " is not complete");
  if (shards_.size() == 1) return;
  Json map = Json::object();
  for (std::size_t i = 0; i < shards_.size(); ++i)
    for (const ParameterPart& tensor : shards_[i]) map[tensor.name] = file_name(i);
  const Json index = {{"metadata", {{"total_size", bytes_}}}, {"weight_map", map}};
  write_file_atomically(folder_ + "/" + kIndexName, index.dump(2) + "\n");
}

}  // namespace smoe
