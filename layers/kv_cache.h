// KeyValueCache: the keys and values of the tokens processed so far, so that generation computes
// each position once.
#pragma once
#include <vector>

#include "core/tensor.h"
#include "layers/model_config.h"

namespace smoe {

class KeyValueCache {
 public:
  /// Holds up to `capacity` tokens of each of `batch` sequences, in every layer.
  KeyValueCache(const ModelConfig& config, std::int64_t batch, std::int64_t capacity, DType dtype);

  std::int64_t batch() const { return batch_; }
  std::int64_t capacity() const { return capacity_; }
  /// Tokens cached per sequence; the position of the next token.
  std::int64_t length() const { return length_; }
  /// One layer's tensor: [batch, capacity, 2 Hkv C], in the layout of cached_attention.
  const Tensor& layer(std::size_t index) const { return layers_[index]; }
  /// Call after all layers have appended `count` tokens.
  void advance(std::int64_t count) { length_ += count; }
  /// Empties the cache: the next token has position 0.
  void clear() { length_ = 0; }

 private:
  std::int64_t batch_, capacity_, length_ = 0;
  std::vector<Tensor> layers_;
};

/// One layer's view of a cache.
struct CachedLayer {
  const Tensor& keys_and_values;  ///< [B, capacity, 2 Hkv C]
  std::int64_t length;            ///< tokens cached
};

}  // namespace smoe
