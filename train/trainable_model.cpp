#include "train/trainable_model.h"

#include <utility>

namespace smoe {

TrainableModel::TrainableModel(const Config& config, bool trains,
                               std::function<std::vector<Range>(std::int64_t numel)> own)
    : transformer(config.model),
      store(transformer.parameters(), {.master = accumulation_dtype(config.train.precision),
                                       .compute = config.train.precision,
                                       .seed = static_cast<std::uint64_t>(config.run.seed),
                                       .trains = trains,
                                       .gradients = config.train.grad_dtype,
                                       .own = std::move(own)}) {}

void TrainableModel::visit_state(StateVisitor& visitor) {
  store.visit_state(visitor);
  transformer.visit_state(visitor);
}

void TrainableModel::visit_base(StateVisitor& visitor) {
  store.visit_frozen(visitor);
  transformer.visit_frozen(visitor);
}

}  // namespace smoe
