#include "core/names.h"

#include <mutex>
#include <set>

namespace smoe {

const char* interned(const std::string& name) {
  static std::mutex& mutex = *new std::mutex;
  static auto& names = *new std::set<std::string>;
  const std::lock_guard lock(mutex);
  return names.insert(name).first->c_str();
}

}  // namespace smoe
