// Regular files: the only place that opens, reads, writes and syncs them. Short reads and writes
// are continued here, so callers get all bytes or an error that names the call, the path, the
// offset and the system's reason. Folders and paths: folder.h.
#pragma once
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include "core/system/descriptor.h"

namespace smoe {

enum class LockResult : std::uint8_t {
  locked,
  held,         ///< by another open file, in any process
  unsupported,  ///< by the file system, such as Lustre without -o flock
};

/// An open regular file; closed by the destructor. Offsets and sizes are in bytes. All members
/// throw SystemError when a system call fails.
class File {
 public:
  File() = default;

  /// Opens an existing file for reading. Also throws when `path` is not a regular file.
  static File open(const std::string& path);
  /// Opens a file for reading and writing; creates it, or truncates an existing one. Throws when
  /// `path` is a link: it could lead to any file of this user.
  static File create(const std::string& path);
  /// As create, but nothing may exist at `path`; otherwise no value.
  static std::optional<File> create_new(const std::string& path);
  /// Opens a file for append() and reading; creates it if needed. Throws when `path` is a link.
  static File open_append(const std::string& path);

  bool is_open() const { return descriptor_.is_open(); }
  const std::string& path() const { return path_; }
  std::int64_t size() const;
  /// Whether `path` leads to this file, which may have been removed, renamed or replaced.
  bool is_at(const std::string& path) const;

  /// Reads exactly `bytes` bytes at `offset`. Also throws when the file ends earlier.
  void read_at(std::int64_t offset, void* target, std::int64_t bytes) const;
  /// Reads up to `bytes` bytes; returns how many, fewer only at the end of the file.
  std::int64_t read_some_at(std::int64_t offset, void* target, std::int64_t bytes) const;
  /// Writes all bytes at `offset`; a gap before it reads as zeros.
  void write_at(std::int64_t offset, const void* source, std::int64_t bytes);
  /// Writes all bytes at the end. Only for files from open_append.
  void append(std::string_view bytes);
  /// Truncates or extends (with zeros) to `bytes`.
  void resize(std::int64_t bytes);
  /// Returns when the file's bytes and size are on stable storage.
  void sync();
  /// Asks the system to forget what it has cached of the file, all of which must be synced. Returns
  /// whether it did so: file systems in memory and some sandboxes keep it.
  bool drop_cached() const;
  /// Takes the exclusive lock (flock) on this file, held until the file is closed or the process
  /// ends.
  LockResult try_lock();
  /// Closes now and reports an error that the destructor would have to ignore.
  void close();

 private:
  File(std::string path, Descriptor descriptor)
      : path_(std::move(path)), descriptor_(std::move(descriptor)) {}

  std::string path_;
  Descriptor descriptor_;
};

/// Replaces a file atomically: bytes go to a temporary file in the same folder; commit() makes it
/// durable and renames it. Without commit the temporary file is removed and an existing file is
/// unchanged. Temporary files of killed processes are removed by the next writer of the same path.
class AtomicFile {
 public:
  explicit AtomicFile(const std::string& path);
  ~AtomicFile();
  AtomicFile(const AtomicFile&) = delete;
  AtomicFile& operator=(const AtomicFile&) = delete;

  File& file() { return file_; }
  /// Syncs the file, renames and closes it, syncs the folder.
  void commit();

 private:
  std::string path_;
  File file_;
  bool is_committed_ = false;
};

/// Appends lines to a file such as metrics.jsonl. A last line without a newline, left by a killed
/// process, is removed when the file is opened.
class LineWriter {
 public:
  explicit LineWriter(const std::string& path);
  /// `line` without its newline. One write call, so that a reader never sees part of a line.
  void write(std::string_view line);
  void sync() { file_.sync(); }

 private:
  File file_;
};

/// Reads a whole file. Throws: SystemError; UsageError when it has more than `max_bytes`.
std::string read_file(const std::string& path, std::int64_t max_bytes);
/// Creates or replaces `path` through AtomicFile.
void write_file_atomically(const std::string& path, std::string_view bytes);

}  // namespace smoe
