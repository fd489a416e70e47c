// DynamicLibrary: a shared library that this program uses where it is and does without elsewhere.
#pragma once
#include <dlfcn.h>

#include <initializer_list>
#include <string>

#include "core/base/check.h"

namespace smoe {

class DynamicLibrary {
 public:
  /// Opens the first of `names` that can be. It stays open: tools like CUPTI cannot be unloaded.
  /// Throws: SystemError with the reason for the first name.
  explicit DynamicLibrary(std::initializer_list<const char*> names) : name_(*names.begin()) {
    std::string reason;
    for (const char* name : names) {
      if ((handle_ = ::dlopen(name, RTLD_NOW | RTLD_LOCAL)) != nullptr) return;
      const char* const error = ::dlerror();
      if (reason.empty()) reason = error ? error : "unknown reason";
    }
    throw SystemError(concat(name_, ": cannot be loaded: ", reason));
  }

  /// Sets `function` to the function called `name`. Throws: SystemError.
  template <class F>
  void load(const char* name, F& function) const {
    function = reinterpret_cast<F>(::dlsym(handle_, name));
    if (!function) throw SystemError(concat(name_, ": has no function ", name));
  }

 private:
  std::string name_;
  void* handle_ = nullptr;
};

}  // namespace smoe
