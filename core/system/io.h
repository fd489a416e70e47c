// Files and folders: the only place that opens, reads, writes, syncs, renames and removes. Every
// system call passes one thin layer in io.cpp, which repeats calls that a signal interrupted;
// short reads and writes are continued here, so callers see all bytes or an error that names the
// call, the path, the offset and the system's reason.
#pragma once
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace smoe {

/// An open regular file; closed by the destructor. Offsets and sizes are bytes. All members throw
/// SystemError when the system refuses a call.
class File {
 public:
  File() = default;
  ~File();
  File(File&& other) noexcept;
  File& operator=(File&& other) noexcept;

  /// An existing file, for reading. Throws also when `path` is no regular file.
  static File open(const std::string& path);
  /// An empty file for reading and writing; what was there before is cut away.
  static File create(const std::string& path);
  /// An existing or empty file for append() and reading.
  static File open_append(const std::string& path);

  bool is_open() const { return descriptor_ >= 0; }
  const std::string& path() const { return path_; }
  std::int64_t size() const;

  /// Reads exactly `bytes` bytes from `offset` on. Throws also when the file ends before.
  void read_at(std::int64_t offset, void* target, std::int64_t bytes) const;
  /// Reads up to `bytes` bytes; returns how many there were before the end of the file.
  std::int64_t read_some_at(std::int64_t offset, void* target, std::int64_t bytes) const;
  /// Writes all bytes at `offset`; a hole before it reads as zeros.
  void write_at(std::int64_t offset, const void* source, std::int64_t bytes);
  /// Writes all bytes at the end. Only after open_append.
  void append(std::string_view bytes);
  /// Cuts or extends (with zeros) to `bytes`.
  void resize(std::int64_t bytes);
  /// Returns when the file's bytes and size are on stable storage.
  void sync();
  /// Takes the lock on this file that only one open file at a time may hold, of any process; the
  /// system gives it up when the file is closed, also by death. Returns false when it is taken.
  bool try_lock();
  /// Closes now, reporting an error that the destructor would have to swallow.
  void close();

 private:
  File(std::string path, int descriptor) : path_(std::move(path)), descriptor_(descriptor) {}

  std::string path_;
  int descriptor_ = -1;
};

/// A file that appears under its name whole or not at all: bytes go to a temporary file in the same
/// folder, `commit` makes it durable and gives it its name. Without commit the temporary file is
/// removed and an older file of that name stays as it was. What a killed process left of its own is
/// removed by the next writer of the same path.
class AtomicFile {
 public:
  explicit AtomicFile(const std::string& path);
  ~AtomicFile();
  AtomicFile(const AtomicFile&) = delete;
  AtomicFile& operator=(const AtomicFile&) = delete;

  File& file() { return file_; }
  /// Sync, rename, close, sync of the folder.
  void commit();

 private:
  std::string path_;
  File file_;
  bool is_committed_ = false;
};

/// Appends whole lines to a file such as metrics.jsonl. A last line that a killed process left
/// without its newline is cut away on opening.
class LineWriter {
 public:
  explicit LineWriter(const std::string& path);
  /// `line` without its newline; one write call, so a reader never sees half a line.
  void write(std::string_view line);
  void sync() { file_.sync(); }

 private:
  File file_;
};

/// The whole file. Throws: SystemError; UsageError when it has more than `max_bytes`.
std::string read_file(const std::string& path, std::int64_t max_bytes);
/// Replaces or creates `path` by way of AtomicFile.
void write_file_atomically(const std::string& path, std::string_view bytes);

enum class PathKind : std::uint8_t { none, file, folder, other };
/// What `path` is, links followed; none when it or a part of it does not exist.
PathKind kind_of(const std::string& path);

/// Whether both paths exist and lead to one file or folder, links followed.
bool is_same_path(const std::string& a, const std::string& b);

struct FolderEntry {
  std::string name;    ///< without the folder
  PathKind kind;       ///< links followed; none for a dangling link
  bool is_link;        ///< whether the entry itself is a symbolic link
  std::int64_t bytes;  ///< size of a file
};
/// The entries of a folder in the order of their names' bytes, without "." and "..".
std::vector<FolderEntry> list_folder(const std::string& path);

/// Creates a folder and those above it; one that exists is fine.
void make_folders(const std::string& path);
/// Creates one folder. Throws: SystemError when it exists.
void make_new_folder(const std::string& path);
/// Gives a file or folder another name on the same file system; a file of that name is replaced.
/// Durable after sync_folder on the folder that holds it.
void rename_path(const std::string& from, const std::string& to);
/// Removes a file or link; returns false when there was none.
bool remove_file(const std::string& path);
/// Removes a folder and all that is in it, or a link, following none; returns false when there was
/// nothing.
bool remove_folder(const std::string& path);
/// Makes creations, renames and removals in a folder durable.
void sync_folder(const std::string& path);

/// "a/b" of "a/b/c", "." of "c", "/" of "/c".
std::string parent_of(const std::string& path);
/// "c" of "a/b/c".
std::string name_of_path(const std::string& path);

}  // namespace smoe
