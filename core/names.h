// Names that outlive their owners.
#pragma once
#include <string>

namespace smoe {

/// A copy of `name` that lives as long as the process; equal names share one.
const char* interned(const std::string& name);

}  // namespace smoe
