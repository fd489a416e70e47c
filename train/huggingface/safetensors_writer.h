// Writing of safetensors files; the format: safetensors.h.
#pragma once
#include <map>
#include <string>
#include <vector>

#include "autograd/parameter.h"
#include "core/system/file.h"

namespace smoe {

/// Writes one file tensor by tensor, so that at most one has to be in memory. The file appears
/// under its name only after commit().
class SafetensorsWriter {
 public:
  /// `tensors`: all tensors that will be written, in their order in the file, stored as the
  /// floating-point `dtype`. Throws: UsageError for a duplicate name; SystemError.
  SafetensorsWriter(const std::string& path, const std::vector<ParameterPart>& tensors, DType dtype,
                    const std::map<std::string, std::string>& metadata = {});

  /// Writes the next tensor, of any floating-point dtype, rounded to the file's dtype.
  /// Throws: UsageError when name or shape differ from the next of `tensors`; SystemError.
  void write(const std::string& name, const Tensor& tensor);

  /// Throws: UsageError if tensors are missing; SystemError.
  void commit();

 private:
  AtomicFile file_;
  DType dtype_;
  std::vector<ParameterPart> tensors_;
  std::size_t num_written_ = 0;
  std::int64_t offset_ = 0;
};

}  // namespace smoe
