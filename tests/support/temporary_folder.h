// A temporary folder per test, and the message of an error.
#pragma once
#include <cstdlib>
#include <string>
#include <string_view>

#include "core/base/check.h"
#include "core/system/file.h"
#include "core/system/folder.h"

namespace smoe {

/// Made by the constructor, removed with all that is in it by the destructor.
class TemporaryFolder {
 public:
  explicit TemporaryFolder(const std::string& parent = "/tmp")
      : path_(parent + "/smoe-test-XXXXXX") {
    if (!::mkdtemp(path_.data())) throw SystemError("mkdtemp: " + parent + " cannot be written");
  }
  ~TemporaryFolder() { remove_folder(path_); }
  TemporaryFolder(const TemporaryFolder&) = delete;
  TemporaryFolder& operator=(const TemporaryFolder&) = delete;

  const std::string& path() const { return path_; }
  std::string operator/(const std::string& name) const { return path_ + "/" + name; }

 private:
  std::string path_;
};

/// A folder in memory where there is one, for tests that make very many files durable.
inline std::string fast_parent() {
  return kind_of("/dev/shm") == PathKind::folder ? "/dev/shm" : "/tmp";
}

/// Makes `bytes` the file's content in place, without the syncs that make write_file_atomically
/// slow.
inline void overwrite(const std::string& path, std::string_view bytes) {
  File file = File::create(path);
  file.write_at(0, bytes.data(), static_cast<std::int64_t>(bytes.size()));
}

/// What the error that f() throws says, or "no error".
template <class F>
std::string message_of(F&& f) {
  try {
    f();
  } catch (const Error& error) {
    return error.what();
  }
  return "no error";
}

}  // namespace smoe
