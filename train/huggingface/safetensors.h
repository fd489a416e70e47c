// Safetensors files (https://github.com/huggingface/safetensors): an 8-byte little-endian length, a
// JSON header of that length,
//   {"__metadata__": {name: text, ...}, name: {"dtype", "shape", "data_offsets": [begin, end]},
//   ...}
// and the tensors' bytes, row-major and little-endian, without gaps up to the end of the file. Any
// other header is refused.
#pragma once
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "autograd/parameter.h"
#include "core/system/file.h"

namespace smoe {

inline constexpr std::int64_t kMaxSafetensorsHeaderBytes = std::int64_t{32} << 20;

struct SafetensorsEntry {
  std::string name;
  std::string dtype;                ///< as in the file: "F32", "BF16", "F16", "I64", ...
  std::vector<std::int64_t> sizes;  ///< of any number of dimensions
  std::int64_t offset = 0;          ///< bytes from the file's start
  std::int64_t bytes = 0;

  /// No value if it has more dimensions than a Shape.
  std::optional<Shape> shape() const;
  /// "[2, 3]".
  std::string shape_text() const;
};

/// A file open for reading, with tensors of any rank and dtype. The constructor validates the
/// header; read() loads one tensor.
class SafetensorsFile {
 public:
  /// Throws: UsageError, one line, naming the file and the problem; SystemError.
  explicit SafetensorsFile(const std::string& path);

  const std::string& path() const { return file_.path(); }
  /// In file order.
  const std::vector<SafetensorsEntry>& entries() const { return entries_; }
  const std::map<std::string, std::string>& metadata() const { return metadata_; }
  /// The entry with that name, or nullptr.
  const SafetensorsEntry* find(const std::string& name) const;

  /// The tensor as `dtype`, which must be the stored one, or f32 or f64 if that represents every
  /// value of the stored floating-point dtype. Throws: UsageError for another `dtype` or more
  /// dimensions than a Shape has; SystemError.
  Tensor read(const SafetensorsEntry& entry, DType dtype) const;

 private:
  void parse_header(const std::string& text, std::int64_t data_begin);

  File file_;
  std::vector<SafetensorsEntry> entries_;
  std::map<std::string, std::size_t> index_;
  std::map<std::string, std::string> metadata_;
};

/// The format's name for `dtype`: "F32" for f32.
std::string safetensors_dtype(DType dtype);

}  // namespace smoe
