// The weights in a Hugging Face model folder: model.safetensors, or shards with the index
// model.safetensors.index.json, {"metadata": {...}, "weight_map": {tensor: file, ...}}.
#pragma once
#include <optional>
#include <string>
#include <vector>

#include "train/huggingface/safetensors.h"
#include "train/huggingface/safetensors_writer.h"

namespace smoe {

/// The weights of a folder, open for reading. Every tensor is in exactly one file, the one that the
/// index names if there is one.
class WeightFiles {
 public:
  /// Throws: UsageError, one line, naming the file and the problem; SystemError.
  explicit WeightFiles(const std::string& folder);

  std::int64_t num_tensors() const { return static_cast<std::int64_t>(index_.size()); }
  /// Over all files.
  std::int64_t bytes() const;
  /// Sorted.
  std::vector<std::string> names() const;
  /// The tensor with that name, or nullptr.
  const SafetensorsEntry* find(const std::string& name) const;
  /// As SafetensorsFile::read. Throws also: UsageError when there is no such tensor.
  Tensor read(const std::string& name, DType dtype) const;

 private:
  struct Place {
    std::size_t file;
    const SafetensorsEntry* entry;
  };
  void add_file(const std::string& path);
  void add_shards(const std::string& folder, const std::string& index_path);

  std::string folder_;
  std::vector<SafetensorsFile> files_;
  std::map<std::string, Place> index_;
};

/// Writes weights to a folder: one file, or shards and their index if they exceed
/// `max_shard_bytes`. Only a shard with a single tensor may be larger.
class WeightFilesWriter {
 public:
  /// `tensors`: all tensors, in the order of writing, stored as the floating-point `dtype`.
  WeightFilesWriter(const std::string& folder, const std::vector<ParameterPart>& tensors,
                    DType dtype, std::int64_t max_shard_bytes);

  std::int64_t num_files() const { return static_cast<std::int64_t>(shards_.size()); }
  /// Over all tensors.
  std::int64_t bytes() const { return bytes_; }

  /// Writes the next tensor. Throws: as SafetensorsWriter.
  void write(const std::string& name, const Tensor& tensor);
  /// Writes the index. To be called after the last tensor.
  void finish();

 private:
  std::string file_name(std::size_t shard) const;

  std::string folder_;
  DType dtype_;
  std::vector<std::vector<ParameterPart>> shards_;
  std::int64_t bytes_ = 0;
  std::size_t shard_ = 0;        // the current shard ...
  std::size_t num_written_ = 0;  // ... and its number of written tensors
  std::optional<SafetensorsWriter> writer_;
};

}  // namespace smoe
