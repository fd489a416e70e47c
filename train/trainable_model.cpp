#include "train/trainable_model.h"

namespace smoe {

TrainableModel::TrainableModel(const Config& config, bool trains)
    : transformer(config.model),
      store(transformer.parameters(), {.master = accumulation_dtype(config.train.precision),
                                       .compute = config.train.precision,
                                       .seed = static_cast<std::uint64_t>(config.run.seed),
                                       .trains = trains}) {}

void TrainableModel::visit_state(StateVisitor& visitor) {
  store.visit_state(visitor);
  transformer.visit_state(visitor);
}

}  // namespace smoe
