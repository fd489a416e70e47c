// What unequal loads of experts cost in a training step.
#pragma once
#include "train/profile/profile.h"
#include "train/trainer.h"

namespace smoe {

/// From the loads of the trainer's last step. Runs the experts of each layer forward with these
/// loads and with equal ones; `experts_ms` is the measured time of each layer's expert GEMMs,
/// forward and backward, which is scaled by the ratio.
RoutingCost measure_routing_cost(const Config& config, Trainer& trainer,
                                 const std::vector<LayerGroup>& layers);

}  // namespace smoe
