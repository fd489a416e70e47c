// Paths and folders: what a path is, listing, creating, renaming and removing, and making those
// changes durable. Every system call passes io_calls.h.
#pragma once
#include <cstdint>
#include <string>
#include <vector>

#include "core/system/descriptor.h"

namespace smoe {

enum class PathKind : std::uint8_t { none, file, folder, other };
/// The kind of `path`, following links; none when it or a part of it does not exist.
PathKind kind_of(const std::string& path);

/// Whether both paths exist and lead to the same file or folder, following links.
bool is_same_path(const std::string& a, const std::string& b);
/// Throws: UsageError when writing `output`, with links followed, would replace one of `inputs`.
void check_is_no_input(const std::string& output, const std::vector<std::string>& inputs);
/// The absolute path of an existing file or folder, with links followed. Throws: SystemError.
std::string absolute_path(const std::string& path);

struct FolderEntry {
  std::string name;    ///< without the folder
  PathKind kind;       ///< following links; none for a dangling link
  bool is_link;        ///< whether the entry itself is a symbolic link
  std::int64_t bytes;  ///< size of a file
};
/// The entries of a folder without "." and "..", sorted by the bytes of their names.
std::vector<FolderEntry> list_folder(const std::string& path);

/// Creates a folder and its parents as needed.
void make_folders(const std::string& path);
/// Creates one folder. Throws: SystemError when it exists.
void make_new_folder(const std::string& path);
/// Renames a file or folder within one file system; replaces an existing file. Durable after
/// sync_folder on the folder that holds it.
void rename_path(const std::string& from, const std::string& to);
/// Removes a file or link; returns false when it does not exist.
bool remove_file(const std::string& path);
/// Removes a folder with its contents, a file or a link, without following links; returns false
/// when it does not exist. What cannot be removed does not keep the rest: throws SystemError at the
/// end, with the first failure.
bool remove_folder(const std::string& path);
/// Makes creations, renames and removals in a folder durable. Returns false when the file system
/// does not support that (SMB, some FUSE file systems): then a power failure may undo them.
bool sync_folder(const std::string& path);

/// Creates a folder atomically: it is filled at a temporary path beside `path`; commit() renames
/// it. Without commit it is removed, with its contents.
class AtomicFolder {
 public:
  /// Creates the temporary folder, and removes one that a killed process left.
  /// Throws: UsageError when `path` exists or another process is creating it; SystemError.
  explicit AtomicFolder(const std::string& path);
  ~AtomicFolder();
  AtomicFolder(const AtomicFolder&) = delete;
  AtomicFolder& operator=(const AtomicFolder&) = delete;

  const std::string& path() const { return path_; }
  /// Where to write until commit().
  const std::string& temporary_path() const { return temporary_path_; }
  /// Renames the folder, durably. Writers must have synced its files.
  void commit();

 private:
  void remove_left();

  std::string path_, temporary_path_;
  Descriptor lock_;  // on the temporary folder, where the file system has locks
  bool is_committed_ = false;
};

/// "a/b" for "a/b/c", "." for "c", "/" for "/c".
std::string parent_of(const std::string& path);
/// "c" for "a/b/c".
std::string name_of_path(const std::string& path);

}  // namespace smoe
