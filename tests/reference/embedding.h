// Embedding look-up and its gradient in double.
#pragma once
#include <cstdint>
#include <vector>

namespace reference {

/// output [T, D]: row t is row ids[t] of table [V, D].
inline std::vector<double> embedding(std::int64_t width, const std::vector<double>& table,
                                     const std::vector<std::int32_t>& ids) {
  std::vector<double> output;
  for (const std::int32_t id : ids)
    for (std::int64_t j = 0; j < width; ++j) output.push_back(table[id * width + j]);
  return output;
}

/// Adds doutput [T, D] to the rows of dtable [V, D] of its tokens.
inline void embedding_backward(std::int64_t width, const std::vector<double>& doutput,
                               const std::vector<std::int32_t>& ids, std::vector<double>& dtable) {
  for (std::size_t t = 0; t < ids.size(); ++t)
    for (std::int64_t j = 0; j < width; ++j) dtable[ids[t] * width + j] += doutput[t * width + j];
}

}  // namespace reference
