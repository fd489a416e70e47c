#include "layers/kv_cache.h"

#include "core/base/check.h"

namespace smoe {

KeyValueCache::KeyValueCache(const ModelConfig& c, std::int64_t batch, std::int64_t capacity,
                             DType dtype)
    : batch_(batch), capacity_(capacity) {
  SMOE_CHECK(batch > 0 && capacity > 0, "kv_cache: batch and capacity must be positive; got ",
             batch, " and ", capacity);
  for (std::int64_t i = 0; i < c.num_layers; ++i)
    layers_.push_back(Tensor::empty({batch, capacity, 2 * c.num_kv_heads * c.head_dim}, dtype));
}

}  // namespace smoe
