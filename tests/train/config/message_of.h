// The message of the UsageError that a function throws.
#pragma once
#include <string>

#include "core/base/check.h"

namespace smoe {

template <class F>
std::string message_of(const F& action) {
  try {
    action();
  } catch (const UsageError& error) {
    return error.what();
  }
  return "no error";
}

}  // namespace smoe
