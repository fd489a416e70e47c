// RotaryTable: the sines and cosines of a rotary embedding, kept between calls of the op.
#pragma once
#include <cstdint>

#include "core/tensor.h"

namespace smoe {

/// Of one range of positions at a time; the op fills it again when it is called for another.
struct RotaryTable {
  struct Key {
    std::int64_t seq_len, head_dim, first_position;
    double theta;
    DType dtype;
    friend bool operator==(const Key&, const Key&) = default;
  };
  Key key = {};
  Tensor workspace = {};  ///< of the kernel; undefined before the first call
};

}  // namespace smoe
