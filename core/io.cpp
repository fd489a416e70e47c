#include "core/io.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstdio>
#include <memory>
#include <system_error>
#include <utility>

#include "core/base/check.h"

namespace smoe {
namespace {

// The thin layer: calls that can fail in a way that matters are made by these two.

// Makes the call again for as long as a signal interrupts it. Returns its result, errno set.
template <class Call>
auto uninterrupted(Call&& call) {
  auto result = call();
  while (result < 0 && errno == EINTR) result = call();
  return result;
}

// As uninterrupted; a failure throws, named by what was done to which file.
template <class Call>
auto checked(const std::string& what, Call&& call) {
  const auto result = uninterrupted(call);
  if (result < 0) throw SystemError(concat(what, ": ", std::generic_category().message(errno)));
  return result;
}

std::string at_byte(const char* verb, const std::string& path, std::int64_t offset) {
  return concat(verb, " ", path, " at byte ", offset);
}

int open_descriptor(const std::string& path, int flags) {
  // O_NONBLOCK: opening a pipe that nobody writes must fail the kind check below, not hang.
  return checked("open " + path, [&] {
    return ::open(path.c_str(), flags | O_CLOEXEC | O_NOCTTY | O_NONBLOCK, 0666);
  });
}

PathKind kind_of_mode(mode_t mode) {
  if (S_ISREG(mode)) return PathKind::file;
  return S_ISDIR(mode) ? PathKind::folder : PathKind::other;
}

// Closes a descriptor that was only read from, whose close can lose nothing.
struct Closer {
  int descriptor;
  ~Closer() { ::close(descriptor); }
};

bool is_missing(int error) {
  return error == ENOENT || error == ENOTDIR;
}

}  // namespace

File::~File() {
  if (is_open()) ::close(descriptor_);
}

File::File(File&& other) noexcept
    : path_(std::move(other.path_)), descriptor_(std::exchange(other.descriptor_, -1)) {}

File& File::operator=(File&& other) noexcept {
  std::swap(path_, other.path_);
  std::swap(descriptor_, other.descriptor_);
  return *this;
}

File File::open(const std::string& path) {
  File file(path, open_descriptor(path, O_RDONLY));
  struct stat info;
  checked("stat " + path, [&] { return ::fstat(file.descriptor_, &info); });
  if (S_ISDIR(info.st_mode)) throw SystemError(concat("open ", path, ": is a folder, not a file"));
  if (!S_ISREG(info.st_mode)) throw SystemError(concat("open ", path, ": is no regular file"));
  return file;
}

File File::create(const std::string& path) {
  return File(path, open_descriptor(path, O_RDWR | O_CREAT | O_TRUNC));
}

File File::open_append(const std::string& path) {
  return File(path, open_descriptor(path, O_RDWR | O_CREAT | O_APPEND));
}

std::int64_t File::size() const {
  struct stat info;
  checked("stat " + path_, [&] { return ::fstat(descriptor_, &info); });
  return info.st_size;
}

void File::read_at(std::int64_t offset, void* target, std::int64_t bytes) const {
  const std::int64_t got = read_some_at(offset, target, bytes);
  if (got == bytes) return;
  throw SystemError(concat(at_byte("read", path_, offset), ": wanted ", bytes,
                           " bytes, but the file ends after ", got));
}

std::int64_t File::read_some_at(std::int64_t offset, void* target, std::int64_t bytes) const {
  std::int64_t done = 0;
  while (done < bytes) {
    const std::int64_t got = checked(at_byte("read", path_, offset + done), [&] {
      return ::pread(descriptor_, static_cast<char*>(target) + done, bytes - done, offset + done);
    });
    if (got == 0) break;
    done += got;
  }
  return done;
}

void File::write_at(std::int64_t offset, const void* source, std::int64_t bytes) {
  for (std::int64_t done = 0; done < bytes;) {
    done += checked(at_byte("write", path_, offset + done), [&] {
      return ::pwrite(descriptor_, static_cast<const char*>(source) + done, bytes - done,
                      offset + done);
    });
  }
}

void File::append(std::string_view bytes) {
  while (!bytes.empty()) {
    bytes.remove_prefix(checked("append to " + path_,
                                [&] { return ::write(descriptor_, bytes.data(), bytes.size()); }));
  }
}

void File::resize(std::int64_t bytes) {
  checked(concat("resize ", path_, " to ", bytes, " bytes"),
          [&] { return ::ftruncate(descriptor_, bytes); });
}

void File::sync() {
  checked("sync " + path_, [&] { return ::fsync(descriptor_); });
}

bool File::try_lock() {
  if (uninterrupted([&] { return ::flock(descriptor_, LOCK_EX | LOCK_NB); }) == 0) return true;
  if (errno == EWOULDBLOCK) return false;
  throw SystemError(concat("lock ", path_, ": ", std::generic_category().message(errno)));
}

void File::close() {
  // Never repeated: on Linux the descriptor is gone even when close was interrupted.
  const int result = ::close(std::exchange(descriptor_, -1));
  if (result < 0 && errno != EINTR)
    throw SystemError(concat("close ", path_, ": ", std::generic_category().message(errno)));
}

AtomicFile::AtomicFile(const std::string& path) : path_(path) {
  // Unique among processes and within this one, so that two writers never share a temporary file.
  static std::atomic<int> count{0};
  file_ = File::create(concat(path, ".tmp-", ::getpid(), "-", count++));
}

AtomicFile::~AtomicFile() {
  if (!is_committed_) ::unlink(file_.path().c_str());
}

void AtomicFile::commit() {
  file_.sync();
  file_.close();
  rename_path(file_.path(), path_);
  is_committed_ = true;
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

PathKind kind_of(const std::string& path) {
  struct stat info;
  if (uninterrupted([&] { return ::stat(path.c_str(), &info); }) == 0)
    return kind_of_mode(info.st_mode);
  if (is_missing(errno)) return PathKind::none;
  throw SystemError(concat("stat ", path, ": ", std::generic_category().message(errno)));
}

bool is_same_path(const std::string& a, const std::string& b) {
  struct stat first, second;
  const auto exists = [](const std::string& path, struct stat& info) {
    if (uninterrupted([&] { return ::stat(path.c_str(), &info); }) == 0) return true;
    if (is_missing(errno)) return false;
    throw SystemError(concat("stat ", path, ": ", std::generic_category().message(errno)));
  };
  return exists(a, first) && exists(b, second) && first.st_dev == second.st_dev &&
         first.st_ino == second.st_ino;
}

std::vector<FolderEntry> list_folder(const std::string& path) {
  const std::unique_ptr<DIR, int (*)(DIR*)> folder(::opendir(path.c_str()), ::closedir);
  if (!folder)
    throw SystemError(concat("list ", path, ": ", std::generic_category().message(errno)));
  std::vector<FolderEntry> entries;
  for (;;) {
    errno = 0;
    const dirent* found = ::readdir(folder.get());
    if (!found) break;
    const std::string name = found->d_name;
    if (name == "." || name == "..") continue;
    struct stat info;
    const int descriptor = ::dirfd(folder.get());
    const auto stat_entry = [&](int flags) {
      return uninterrupted([&] { return ::fstatat(descriptor, name.c_str(), &info, flags); }) == 0;
    };
    if (!stat_entry(AT_SYMLINK_NOFOLLOW)) continue;  // removed since it was listed
    FolderEntry entry{name, kind_of_mode(info.st_mode), S_ISLNK(info.st_mode), info.st_size};
    if (entry.is_link) {
      const bool is_dangling = !stat_entry(0);
      entry.kind = is_dangling ? PathKind::none : kind_of_mode(info.st_mode);
      entry.bytes = is_dangling ? 0 : info.st_size;
    }
    entries.push_back(std::move(entry));
  }
  if (errno) throw SystemError(concat("list ", path, ": ", std::generic_category().message(errno)));
  std::sort(entries.begin(), entries.end(),
            [](const FolderEntry& a, const FolderEntry& b) { return a.name < b.name; });
  return entries;
}

void make_folders(const std::string& path) {
  if (kind_of(path) == PathKind::folder) return;
  const std::string parent = parent_of(path);
  if (parent != path) make_folders(parent);
  if (uninterrupted([&] { return ::mkdir(path.c_str(), 0777); }) == 0) return;
  const int error = errno;
  // Another process may have been faster.
  if (error == EEXIST && kind_of(path) == PathKind::folder) return;
  throw SystemError(concat("make folder ", path, ": ", std::generic_category().message(error)));
}

void make_new_folder(const std::string& path) {
  checked("make folder " + path, [&] { return ::mkdir(path.c_str(), 0777); });
}

void rename_path(const std::string& from, const std::string& to) {
  checked(concat("rename ", from, " to ", to), [&] { return ::rename(from.c_str(), to.c_str()); });
}

bool remove_file(const std::string& path) {
  if (uninterrupted([&] { return ::unlink(path.c_str()); }) == 0) return true;
  if (errno == ENOENT) return false;
  throw SystemError(concat("remove ", path, ": ", std::generic_category().message(errno)));
}

bool remove_folder(const std::string& path) {
  if (kind_of(path) == PathKind::none) return false;
  for (const FolderEntry& entry : list_folder(path)) {
    const std::string inner = path + "/" + entry.name;
    if (entry.kind == PathKind::folder && !entry.is_link) {
      remove_folder(inner);
    } else {
      remove_file(inner);
    }
  }
  checked("remove folder " + path, [&] { return ::rmdir(path.c_str()); });
  return true;
}

void sync_folder(const std::string& path) {
  const int descriptor = open_descriptor(path, O_RDONLY | O_DIRECTORY);
  const Closer closer{descriptor};
  checked("sync folder " + path, [&] { return ::fsync(descriptor); });
}

std::string parent_of(const std::string& path) {
  const std::size_t last = path.find_last_not_of('/');
  const std::size_t slash = last == std::string::npos ? 0 : path.rfind('/', last);
  if (slash == std::string::npos) return ".";
  const std::size_t end = path.find_last_not_of('/', slash);
  return end == std::string::npos ? "/" : path.substr(0, end + 1);
}

std::string name_of_path(const std::string& path) {
  const std::size_t last = path.find_last_not_of('/');
  if (last == std::string::npos) return "/";
  const std::size_t slash = path.rfind('/', last);
  const std::size_t begin = slash == std::string::npos ? 0 : slash + 1;
  return path.substr(begin, last + 1 - begin);
}

}  // namespace smoe
