// KeyValueCache: the keys and values of the tokens a model has read, so that generation computes
// each position once.
#pragma once
#include <vector>

#include "core/tensor.h"
#include "layers/model_config.h"

namespace smoe {

class KeyValueCache {
 public:
  /// Room for `capacity` tokens of each of `batch` sequences, in every layer.
  KeyValueCache(const ModelConfig& config, std::int64_t batch, std::int64_t capacity, DType dtype);

  std::int64_t batch() const { return batch_; }
  std::int64_t capacity() const { return capacity_; }
  /// Tokens of each sequence that it holds; the next one has this position.
  std::int64_t length() const { return length_; }
  /// Of one layer: [batch, capacity, 2 Hkv C], as cached_attention has it.
  const Tensor& layer(std::size_t index) const { return layers_[index]; }
  /// To be called once all layers hold `count` tokens more.
  void advance(std::int64_t count) { length_ += count; }
  /// Forgets everything: the next token has position 0.
  void clear() { length_ = 0; }

 private:
  std::int64_t batch_, capacity_, length_ = 0;
  std::vector<Tensor> layers_;
};

/// One layer's view of a cache.
struct CachedLayer {
  const Tensor& keys_and_values;  ///< [B, capacity, 2 Hkv C]
  std::int64_t length;            ///< tokens in it
};

}  // namespace smoe
