// How `smoe plan` prints a plan.
#pragma once
#include <string>

#include "train/plan/plan.h"

namespace smoe {

/// Tables for people, then three lines per warning. Ends with a line break.
std::string plan_text(const Plan& plan);
/// The same content as one JSON object. Ends with a line break.
std::string plan_json(const Plan& plan);

}  // namespace smoe
