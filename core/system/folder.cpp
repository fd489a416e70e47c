#include "core/system/folder.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <exception>
#include <memory>
#include <optional>

#include "core/base/check.h"
#include "core/system/io_calls.h"

namespace smoe {

using namespace io;

namespace {

PathKind kind_of_mode(mode_t mode) {
  if (S_ISREG(mode)) return PathKind::file;
  return S_ISDIR(mode) ? PathKind::folder : PathKind::other;
}

}  // namespace

PathKind kind_of(const std::string& path) {
  struct stat info;
  if (uninterrupted("stat", [&] { return ::stat(path.c_str(), &info); }) == 0)
    return kind_of_mode(info.st_mode);
  if (is_missing(errno)) return PathKind::none;
  fail("stat " + path);
}

bool is_same_path(const std::string& a, const std::string& b) {
  struct stat first, second;
  const auto exists = [](const std::string& path, struct stat& info) {
    if (uninterrupted("stat", [&] { return ::stat(path.c_str(), &info); }) == 0) return true;
    if (is_missing(errno)) return false;
    fail("stat " + path);
  };
  return exists(a, first) && exists(b, second) && first.st_dev == second.st_dev &&
         first.st_ino == second.st_ino;
}

void check_is_no_input(const std::string& output, const std::vector<std::string>& inputs) {
  for (const std::string& input : inputs)
    SMOE_CHECK(!is_same_path(output, input), output, ": cannot be written: it is an input");
}

std::string absolute_path(const std::string& path) {
  const std::unique_ptr<char, void (*)(void*)> real(::realpath(path.c_str(), nullptr), ::free);
  if (!real) fail("resolve " + path);
  return real.get();
}

namespace {

std::unique_ptr<DIR, int (*)(DIR*)> open_folder(const std::string& path) {
  DIR* folder = nullptr;
  checked("list", "list " + path, [&] { return (folder = ::opendir(path.c_str())) ? 0 : -1; });
  return {folder, ::closedir};
}

// Describes an entry of a folder; no value when it was removed after it was listed.
std::optional<FolderEntry> describe(int folder, const std::string& path, const std::string& name) {
  struct stat info;
  const auto exists = [&](int flags) {
    const auto stat = [&] { return ::fstatat(folder, name.c_str(), &info, flags); };
    if (uninterrupted("stat", stat) == 0) return true;
    if (is_missing(errno) || errno == ELOOP) return false;
    fail(concat("stat ", path, "/", name));
  };
  if (!exists(AT_SYMLINK_NOFOLLOW)) return std::nullopt;
  FolderEntry entry{name, kind_of_mode(info.st_mode), S_ISLNK(info.st_mode), info.st_size};
  if (entry.is_link) {
    const bool is_dangling = !exists(0);
    entry.kind = is_dangling ? PathKind::none : kind_of_mode(info.st_mode);
    entry.bytes = is_dangling ? 0 : info.st_size;
  }
  return entry;
}

}  // namespace

std::vector<FolderEntry> list_folder(const std::string& path) {
  const auto folder = open_folder(path);
  std::vector<FolderEntry> entries;
  for (;;) {
    const dirent* found = nullptr;
    checked("list", "list " + path, [&] {
      errno = 0;
      found = ::readdir(folder.get());
      return found || errno == 0 ? 0 : -1;
    });
    if (!found) break;
    const std::string name = found->d_name;
    if (name == "." || name == "..") continue;
    if (auto entry = describe(::dirfd(folder.get()), path, name))
      entries.push_back(std::move(*entry));
  }
  std::sort(entries.begin(), entries.end(),
            [](const FolderEntry& a, const FolderEntry& b) { return a.name < b.name; });
  return entries;
}

void make_folders(const std::string& path) {
  if (kind_of(path) == PathKind::folder) return;
  const std::string parent = parent_of(path);
  if (parent != path) make_folders(parent);
  if (uninterrupted("mkdir", [&] { return ::mkdir(path.c_str(), 0777); }) == 0) return;
  const int error = errno;
  // Another process may have created it in between.
  if (error == EEXIST && kind_of(path) == PathKind::folder) return;
  errno = error;
  fail("make folder " + path);
}

void make_new_folder(const std::string& path) {
  checked("mkdir", "make folder " + path, [&] { return ::mkdir(path.c_str(), 0777); });
}

void rename_path(const std::string& from, const std::string& to) {
  checked("rename", concat("rename ", from, " to ", to),
          [&] { return ::rename(from.c_str(), to.c_str()); });
}

bool remove_file(const std::string& path) {
  if (uninterrupted("unlink", [&] { return ::unlink(path.c_str()); }) == 0) return true;
  if (errno == ENOENT) return false;
  fail("remove " + path);
}

bool remove_folder(const std::string& path) {
  struct stat info;
  if (uninterrupted("stat", [&] { return ::lstat(path.c_str(), &info); }) != 0) {
    if (is_missing(errno)) return false;
    fail("stat " + path);
  }
  if (!S_ISDIR(info.st_mode)) return remove_file(path);
  std::exception_ptr first_failure;
  for (const FolderEntry& entry : list_folder(path)) {
    try {
      remove_folder(path + "/" + entry.name);
    } catch (const SystemError&) {
      if (!first_failure) first_failure = std::current_exception();
    }
  }
  if (first_failure) std::rethrow_exception(first_failure);
  checked("rmdir", "remove folder " + path, [&] { return ::rmdir(path.c_str()); });
  return true;
}

bool sync_folder(const std::string& path) {
  const Descriptor folder = open_path(path, O_RDONLY | O_DIRECTORY);
  if (uninterrupted("fsync", [&] { return ::fsync(folder.number()); }) == 0) return true;
  if (errno == EINVAL || errno == EBADF || errno == ENOSYS || errno == EOPNOTSUPP) return false;
  fail("sync folder " + path);
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

namespace {

constexpr int kFolderItself = O_RDONLY | O_DIRECTORY | O_NOFOLLOW;

// Locks the folder if nothing else holds its lock.
bool is_locked_elsewhere(const Descriptor& folder) {
  const auto lock = [&] { return ::flock(folder.number(), LOCK_EX | LOCK_NB); };
  return uninterrupted("lock", lock) != 0 && errno == EWOULDBLOCK;
}

}  // namespace

AtomicFolder::AtomicFolder(const std::string& path) : path_(path) {
  while (path_.size() > 1 && path_.ends_with('/')) path_.pop_back();
  SMOE_CHECK(kind_of(path_) == PathKind::none, path_, ": exists; remove it or choose another name");
  temporary_path_ = parent_of(path_) + "/.tmp-" + name_of_path(path_);
  make_folders(parent_of(path_));
  remove_left();
  make_new_folder(temporary_path_);
  lock_ = open_path(temporary_path_, kFolderItself);
  SMOE_CHECK(!is_locked_elsewhere(lock_), path_, ": another process is creating it");
}

void AtomicFolder::remove_left() {
  const Descriptor left = try_open_path(temporary_path_, kFolderItself);
  SMOE_CHECK(!left.is_open() || !is_locked_elsewhere(left), path_,
             ": another process is creating it");
  remove_folder(temporary_path_);
}

AtomicFolder::~AtomicFolder() {
  try {
    if (!is_committed_) remove_folder(temporary_path_);
  } catch (const std::exception&) {  // the original error is more informative
  }
}

void AtomicFolder::commit() {
  sync_folder(temporary_path_);
  rename_path(temporary_path_, path_);
  is_committed_ = true;
  sync_folder(parent_of(path_));
}

}  // namespace smoe
