// A table of the tensors in a file, those alike in one line.
#pragma once
#include <string>
#include <vector>

#include "core/shape.h"

namespace smoe {

struct TensorRow {
  std::string name;
  std::string dtype;
  Shape shape;
  std::int64_t bytes = 0;
};

/// Aligned columns: name, dtype, shape, count, bytes. Tensors whose names differ in numbers alone,
/// with one dtype and shape, share a line in the place of the first: "layers.{0..3}.norm.weight";
/// with `is_each` every tensor has its own. Ends with a line for all of them.
std::string tensor_table(const std::vector<TensorRow>& rows, bool is_each);

}  // namespace smoe
