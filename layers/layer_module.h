// LayerModule: a replaceable part of a decoder layer, its attention or its MLP. Derive from it for
// a module of one's own and register the class (layers/layer_kinds.h).
#pragma once
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "core/base/check.h"
#include "layers/forward_context.h"
#include "layers/module.h"
#include "layers/router.h"

namespace smoe {

class StateVisitor;
struct RotaryTable;

/// What the modules of one layer are built from.
struct LayerSpec {
  std::string name;  ///< of the layer, with which parameter names begin: "model.layers.3"
  const ModelConfig& model;
  std::shared_ptr<RotaryTable> rotary_table;  ///< shared by layers, which run one after the other
  std::map<std::string, KindValue> settings = {};  ///< all of the kind's own

  /// A setting of the kind's own. Throws: InternalError if it has none of that name and type.
  template <class T>
  T setting(const std::string& name) const {
    const auto found = settings.find(name);
    SMOE_INTERNAL_CHECK(found != settings.end() && std::holds_alternative<T>(found->second),
                        "layer kind: has no setting ", name, " of that type");
    return std::get<T>(found->second);
  }
};

/// Parameters of a module that are a part of the model in tables of sizes. Each token is multiplied
/// with `top_k` of `num_experts` equal shares of them.
struct PartParameters {
  ModelPart part;
  std::vector<Parameter*> parameters;
  std::int64_t top_k = 1, num_experts = 1;
};

class LayerModule : public Module {
 public:
  struct Output {
    Variable y;                       ///< [T, D]
    std::vector<Routing> routings{};  ///< of its routers, in the order of routers()
  };

  /// x [T, D], sequence after sequence. The same values for the same input and context: backward
  /// may run it again, with context.plans in place of its routers' choices.
  virtual Output forward(const Variable& x, const LayerContext& context) = 0;

  /// Its routers, whose load is reported and balanced; none by default.
  virtual std::vector<Router*> routers() { return {}; }
  /// Visits state other than parameters and that of its routers; there is none by default.
  virtual void visit_state(StateVisitor&) {}

  /// All parameters by part of the model. By default all are ModelPart::modules and active.
  virtual std::vector<PartParameters> parts() const {
    return {{.part = ModelPart::modules, .parameters = parameters()}};
  }
  /// FLOPs per token, forward, besides GEMMs with weights: of attention. Zero by default.
  virtual double attention_flops(std::int64_t /*seq_len*/) const { return 0; }
  /// FLOPs per token that backward runs again with Recompute::experts; none by default.
  virtual double recomputed_flops() const { return 0; }
};

/// The context of a part of a module whose routers are `count` of the module's, from `first` on.
inline LayerContext of_routers(const LayerContext& context, std::size_t first, std::size_t count) {
  LayerContext part = context;
  if (!context.plans.empty()) part.plans = context.plans.subspan(first, count);
  return part;
}

}  // namespace smoe
