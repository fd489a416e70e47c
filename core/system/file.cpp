#include "core/system/file.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <utility>
#include <vector>

#include "core/base/check.h"
#include "core/system/folder.h"
#include "core/system/io_calls.h"

namespace smoe {

using namespace io;

File File::open(const std::string& path) {
  File file(path, open_path(path, O_RDONLY));
  struct stat info;
  checked("stat", "stat " + path, [&] { return ::fstat(file.descriptor_.number(), &info); });
  if (S_ISDIR(info.st_mode)) throw SystemError(concat("open ", path, ": is a folder, not a file"));
  if (!S_ISREG(info.st_mode)) throw SystemError(concat("open ", path, ": is not a regular file"));
  return file;
}

File File::create(const std::string& path) {
  return File(path, open_path(path, O_RDWR | O_CREAT | O_TRUNC | O_NOFOLLOW));
}

std::optional<File> File::create_new(const std::string& path) {
  Descriptor descriptor = try_open_path(path, O_RDWR | O_CREAT | O_EXCL);
  if (descriptor.is_open()) return File(path, std::move(descriptor));
  if (errno == EEXIST) return std::nullopt;
  fail("open " + path);
}

File File::open_append(const std::string& path) {
  return File(path, open_path(path, O_RDWR | O_CREAT | O_APPEND | O_NOFOLLOW));
}

std::int64_t File::size() const {
  struct stat info;
  checked("stat", "stat " + path_, [&] { return ::fstat(descriptor_.number(), &info); });
  return info.st_size;
}

bool File::is_at(const std::string& path) const {
  struct stat own, other;
  checked("stat", "stat " + path_, [&] { return ::fstat(descriptor_.number(), &own); });
  if (uninterrupted("stat", [&] { return ::stat(path.c_str(), &other); }) != 0) {
    if (is_missing(errno)) return false;
    fail("stat " + path);
  }
  return own.st_dev == other.st_dev && own.st_ino == other.st_ino;
}

void File::read_at(std::int64_t offset, void* target, std::int64_t bytes) const {
  const std::int64_t got = read_some_at(offset, target, bytes);
  if (got == bytes) return;
  throw SystemError(concat("read ", path_, " at byte ", offset, ": wanted ", bytes,
                           " bytes, but the file ends after ", got));
}

std::int64_t File::read_some_at(std::int64_t offset, void* target, std::int64_t bytes) const {
  std::int64_t done = 0;
  while (done < bytes) {
    const std::int64_t at = offset + done;
    const ssize_t got = transfer("read", bytes - done, [&](std::size_t some) {
      return ::pread(descriptor_.number(), static_cast<char*>(target) + done, some, at);
    });
    if (got < 0) fail(concat("read ", path_, " at byte ", at));
    if (got == 0) break;
    done += got;
  }
  return done;
}

void File::write_at(std::int64_t offset, const void* source, std::int64_t bytes) {
  for (std::int64_t done = 0; done < bytes;) {
    const std::int64_t at = offset + done;
    const ssize_t written = transfer("write", bytes - done, [&](std::size_t some) {
      return ::pwrite(descriptor_.number(), static_cast<const char*>(source) + done, some, at);
    });
    if (written < 0) fail(concat("write ", path_, " at byte ", at, " (", bytes - done, " bytes)"));
    done += written;
  }
}

void File::append(std::string_view bytes) {
  while (!bytes.empty()) {
    const ssize_t written = transfer("append", bytes.size(), [&](std::size_t some) {
      return ::write(descriptor_.number(), bytes.data(), some);
    });
    if (written < 0) fail("append to " + path_);
    bytes.remove_prefix(static_cast<std::size_t>(written));
  }
}

void File::resize(std::int64_t bytes) {
  checked("resize", concat("resize ", path_, " to ", bytes, " bytes"),
          [&] { return ::ftruncate(descriptor_.number(), bytes); });
}

void File::sync() {
  checked("fsync", "sync " + path_, [&] { return ::fsync(descriptor_.number()); });
}

bool File::drop_cached() const {
  const int descriptor = descriptor_.number();
  if (::posix_fadvise(descriptor, 0, 0, POSIX_FADV_DONTNEED) != 0) return false;
  const auto bytes = static_cast<std::size_t>(size());
  if (bytes == 0) return true;
  void* const mapped = ::mmap(nullptr, bytes, PROT_READ, MAP_SHARED, descriptor, 0);
  if (mapped == MAP_FAILED) return false;
  const auto page = static_cast<std::size_t>(::sysconf(_SC_PAGESIZE));
  std::vector<unsigned char> is_cached((bytes + page - 1) / page);
  const bool is_known = ::mincore(mapped, bytes, is_cached.data()) == 0;
  ::munmap(mapped, bytes);
  return is_known && std::none_of(is_cached.begin(), is_cached.end(),
                                  [](unsigned char flags) { return (flags & 1) != 0; });
}

LockResult File::try_lock() {
  if (uninterrupted("lock", [&] { return ::flock(descriptor_.number(), LOCK_EX | LOCK_NB); }) == 0)
    return LockResult::locked;
  if (errno == EWOULDBLOCK) return LockResult::held;
  if (errno == ENOSYS || errno == ENOLCK || errno == EOPNOTSUPP) return LockResult::unsupported;
  fail("lock " + path_);
}

void File::close() {
  if (descriptor_.close() < 0 && errno != EINTR) fail("close " + path_);
}

namespace {

// A temporary file is named after its target: TARGET.tmp-PROCESS-COUNT.
constexpr std::string_view kTemporary = ".tmp-";

bool is_temporary_of(std::string_view target, std::string_view name) {
  if (!name.starts_with(target)) return false;
  name.remove_prefix(target.size());
  return name.starts_with(kTemporary) &&
         name.find_first_not_of("0123456789-", kTemporary.size()) == std::string_view::npos;
}

// Removes temporary files of killed processes; one that is being written is locked. Without locks
// the two cannot be told apart, so none is removed.
void remove_dead_temporaries(const std::string& path) {
  const std::string folder = parent_of(path), target = name_of_path(path);
  for (const FolderEntry& entry : list_folder(folder)) {
    if (entry.is_link || !is_temporary_of(target, entry.name)) continue;
    File found = File::open(folder + "/" + entry.name);
    if (found.try_lock() == LockResult::locked) remove_file(found.path());
  }
}

// A new locked file in the folder of `path`, with a name that no other writer uses, in this process
// or another.
File create_temporary(const std::string& path) {
  static std::atomic<int> count{0};
  for (;;) {
    std::optional<File> file = File::create_new(concat(path, kTemporary, ::getpid(), "-", count++));
    if (!file) continue;  // left by a killed process, or placed there by another user
    try {
      // Before it was locked, another writer may have removed it as left by a killed process.
      if (file->try_lock() != LockResult::held && kind_of(file->path()) == PathKind::file)
        return std::move(*file);
    } catch (const SystemError&) {
      remove_file(file->path());
      throw;
    }
  }
}

}  // namespace

AtomicFile::AtomicFile(const std::string& path) : path_(path) {
  try {
    remove_dead_temporaries(path);
  } catch (const SystemError&) {  // they only take disk space, and another writer may have removed
                                  // them first
  }
  file_ = create_temporary(path);
}

AtomicFile::~AtomicFile() {
  if (is_committed_) return;
  try {
    remove_file(file_.path());
  } catch (const std::exception&) {  // the error that led here is the one to report
  }
}

void AtomicFile::commit() {
  file_.sync();
  rename_path(file_.path(), path_);  // before close() releases the lock
  is_committed_ = true;
  file_.close();
  sync_folder(parent_of(path_));
}

LineWriter::LineWriter(const std::string& path) : file_(File::open_append(path)) {
  const std::int64_t size = file_.size();
  char block[4096];
  for (std::int64_t end = size; end > 0;) {
    const std::int64_t begin = std::max<std::int64_t>(0, end - std::int64_t{sizeof block});
    file_.read_at(begin, block, end - begin);
    const std::size_t newline = std::string_view(block, end - begin).rfind('\n');
    if (newline != std::string_view::npos) {
      const std::int64_t whole = begin + static_cast<std::int64_t>(newline) + 1;
      if (whole < size) file_.resize(whole);
      return;
    }
    end = begin;
  }
  if (size > 0) file_.resize(0);
}

void LineWriter::write(std::string_view line) {
  std::string bytes(line);
  bytes += '\n';
  file_.append(bytes);
}

std::string read_file(const std::string& path, std::int64_t max_bytes) {
  const File file = File::open(path);
  const std::int64_t size = file.size();
  SMOE_CHECK(size <= max_bytes, path, ": at most ", max_bytes, " bytes are read; got ", size);
  std::string bytes(size, '\0');
  file.read_at(0, bytes.data(), size);
  return bytes;
}

void write_file_atomically(const std::string& path, std::string_view bytes) {
  AtomicFile target(path);
  target.file().write_at(0, bytes.data(), static_cast<std::int64_t>(bytes.size()));
  target.commit();
}

}  // namespace smoe
