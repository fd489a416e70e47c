// NewFolder: a folder that appears under its name whole or not at all.
#pragma once
#include <string>

namespace smoe {

class NewFolder {
 public:
  /// Makes a temporary folder beside `path`, for what will be in `path`.
  /// Throws: UsageError when there is something at `path`; SystemError.
  explicit NewFolder(const std::string& path);
  /// Removes the temporary folder unless it was committed.
  ~NewFolder();
  NewFolder(const NewFolder&) = delete;
  NewFolder& operator=(const NewFolder&) = delete;

  const std::string& path() const { return path_; }
  /// Where to write until commit().
  const std::string& temporary_path() const { return temporary_path_; }
  /// Gives the folder its name, durably. The files in it are whoever wrote them's to sync.
  void commit();

 private:
  std::string path_, temporary_path_;
  bool is_committed_ = false;
};

}  // namespace smoe
