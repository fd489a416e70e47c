// ForwardContext: the settings of a forward pass other than its inputs.
#pragma once
#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "layers/model_types.h"

namespace smoe {

struct CachedLayer;
struct Routing;
struct RoutingPlan;

struct ForwardContext {
  std::int64_t batch = 0;    ///< B sequences ...
  std::int64_t seq_len = 0;  ///< ... of S tokens each
  bool is_training = false;  ///< enables router jitter
  std::uint64_t seed = 0;    ///< of the run
  std::int64_t step = 0;     ///< with micro_batch, keys the random numbers of this pass
  std::int64_t micro_batch = 0;
  Recompute recompute = Recompute::none;
  std::int64_t recompute_layers = 0;  ///< the layers it applies to, from the first; 0: all

  /// Called with the routings of all routers, in model order, once per forward pass.
  std::function<void(std::span<const Routing> routings)> on_routing = nullptr;
  /// Plans of all routers that replace their choices, or null.
  const std::vector<RoutingPlan>* forced_routing = nullptr;

  std::int64_t num_tokens() const { return batch * seq_len; }
};

/// A ForwardContext with what a module of one decoder layer reads in addition.
struct LayerContext : ForwardContext {
  LayerContext(const ForwardContext& context) : ForwardContext(context) {}  // NOLINT

  const CachedLayer* cached = nullptr;      ///< keys and values of earlier tokens, or null
  std::span<const RoutingPlan> plans = {};  ///< replace its routers' choices; empty: they choose
};

}  // namespace smoe
