// DynamicLibrary: a shared library that this program uses where it is and does without elsewhere.
#pragma once
#include <dlfcn.h>

#include <string>
#include <vector>

#include "core/base/check.h"

namespace smoe {

class DynamicLibrary {
 public:
  /// The handle of the library, or null. It stays open: tools like CUPTI cannot be unloaded.
  static void* open(const std::string& file) {
    return ::dlopen(file.c_str(), RTLD_NOW | RTLD_LOCAL);
  }

  /// Opens the first of `files` that can be. Throws: SystemError with the reason for the first one,
  /// and what to do about it.
  explicit DynamicLibrary(const std::vector<std::string>& files, const std::string& remedy = "")
      : name_(files.front()) {
    std::string reason;
    for (const std::string& file : files) {
      if ((handle_ = open(file)) != nullptr) return;
      const char* const error = ::dlerror();
      if (reason.empty()) reason = error ? error : "unknown reason";
    }
    throw SystemError(
        concat(name_, ": cannot be loaded: ", reason, remedy.empty() ? "" : "; ", remedy));
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
