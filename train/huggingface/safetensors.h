// Safetensors files (https://github.com/huggingface/safetensors): an 8-byte little-endian length, a
// JSON header of that length,
//   {"__metadata__": {name: text, ...}, name: {"dtype", "shape", "data_offsets": [begin, end]},
//   ...}
// and the tensors' bytes, row-major and little-endian, without a gap from the header's end to the
// file's. A header that says anything else is refused.
#pragma once
#include <map>
#include <string>
#include <vector>

#include "autograd/parameter.h"
#include "core/system/file.h"

namespace smoe {

inline constexpr std::int64_t kMaxSafetensorsHeaderBytes = std::int64_t{32} << 20;

struct SafetensorsEntry {
  std::string name;
  std::string dtype;  ///< as in the file: "F32", "BF16", "F16", "I64", ...
  Shape shape;
  std::int64_t offset = 0;  ///< bytes from the file's start
  std::int64_t bytes = 0;
};

/// A file open for reading. Its header is checked; tensors are read when they are asked for.
class SafetensorsFile {
 public:
  /// Throws: UsageError, one line that names the file and what is wrong with it; SystemError.
  explicit SafetensorsFile(const std::string& path);

  const std::string& path() const { return file_.path(); }
  /// In the order of their bytes in the file.
  const std::vector<SafetensorsEntry>& entries() const { return entries_; }
  const std::map<std::string, std::string>& metadata() const { return metadata_; }
  /// The entry of that name, or null.
  const SafetensorsEntry* find(const std::string& name) const;

  /// The tensor as `dtype`: the one it has in the file, or f32 or f64 where that holds every value
  /// of the file's floating dtype. Throws: UsageError for another pair of dtypes; SystemError.
  Tensor read(const SafetensorsEntry& entry, DType dtype) const;

 private:
  void parse_header(const std::string& text, std::int64_t data_begin);

  File file_;
  std::vector<SafetensorsEntry> entries_;
  std::map<std::string, std::size_t> index_;
  std::map<std::string, std::string> metadata_;
};

/// What a tensor of `dtype` is called in the files: "F32" for f32.
std::string safetensors_dtype(DType dtype);

}  // namespace smoe
