// A table of the tensors in a file, with similar ones grouped into one line.
#pragma once
#include <string>
#include <vector>

namespace smoe {

struct TensorRow {
  std::string name;
  std::string dtype;
  std::string shape;  ///< "[2, 3]"
  std::int64_t bytes = 0;
};

/// Aligned columns: name, dtype, shape, count, bytes. Tensors of one dtype and shape whose names
/// differ only in numbers share the line of the first: "layers.{0..3}.norm.weight"; with `is_each`
/// every tensor has its own line. The last line is the total.
std::string tensor_table(const std::vector<TensorRow>& rows, bool is_each);

}  // namespace smoe
