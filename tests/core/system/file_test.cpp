#include "core/system/file.h"

#include <doctest/doctest.h>
#include <signal.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdlib>
#include <string>

#include "core/base/check.h"
#include "core/system/fault.h"
#include "core/system/folder.h"
#include "tests/support/temporary_folder.h"

using namespace smoe;

TEST_CASE("reads return what was written at each offset, and zeros in gaps") {
  const TemporaryFolder folder;
  File file = File::create(folder / "a");
  file.write_at(5, "world", 5);
  file.write_at(0, "hell", 4);
  std::string bytes(10, 'x');
  file.read_at(0, bytes.data(), 10);
  CHECK(bytes == std::string("hell\0world", 10));
  CHECK(file.read_some_at(8, bytes.data(), 10) == 2);
  CHECK(file.read_some_at(100, bytes.data(), 10) == 0);
  file.resize(3);
  CHECK(file.size() == 3);
  file.sync();
  file.close();
  CHECK(!file.is_open());
}

TEST_CASE("errors name the call, the path, the offset and the reason") {
  const TemporaryFolder folder;
  CHECK(message_of([&] { File::open(folder / "none"); }) ==
        "open " + folder.path() + "/none: No such file or directory");
  CHECK(message_of([&] { File::open(folder.path()); }).find("is a folder") != std::string::npos);
  REQUIRE(::mkfifo((folder / "pipe").c_str(), 0600) == 0);
  CHECK(message_of([&] { File::open(folder / "pipe"); }).find("not a regular file") !=
        std::string::npos);
  write_file_atomically(folder / "short", "12345");
  char block[16];
  CHECK(message_of([&] { File::open(folder / "short").read_at(2, block, 16); }) ==
        "read " + folder.path() + "/short at byte 2: wanted 16 bytes, but the file ends after 3");
  File read_only = File::open(folder / "short");
  CHECK_THROWS_AS(read_only.write_at(7, "x", 1), SystemError);
  CHECK(message_of([&] { read_file(folder / "short", 4); }).find("at most 4 bytes") !=
        std::string::npos);
  CHECK(message_of([&] { write_file_atomically("/dev/full/x", ""); }).find("/dev/full/x") !=
        std::string::npos);
}

TEST_CASE("a file's bytes are the same after they were dropped from the cache") {
  const TemporaryFolder folder;
  File file = File::create(folder / "a");
  const std::string bytes(100'000, 'x');
  file.write_at(0, bytes.data(), static_cast<std::int64_t>(bytes.size()));
  file.sync();
  CHECK_NOTHROW(file.drop_cached());  // whether it can depends on the file system
  std::string read(bytes.size(), '\0');
  file.read_at(0, read.data(), static_cast<std::int64_t>(read.size()));
  CHECK(read == bytes);
}

TEST_CASE("a full device makes the write fail") {
  if (kind_of("/dev/full") == PathKind::none) return;
  File full = File::open_append("/dev/full");
  CHECK(message_of([&] { full.append("x"); }) == "append to /dev/full: No space left on device");
}

TEST_CASE("an atomic write shows the old or the new file and leaves no temporary file") {
  const TemporaryFolder folder;
  write_file_atomically(folder / "a", "old");
  {
    AtomicFile target(folder / "a");
    target.file().write_at(0, "half", 4);
    CHECK(list_folder(folder.path()).size() == 2);
    CHECK(read_file(folder / "a", 100) == "old");
  }
  CHECK(list_folder(folder.path()).size() == 1);
  CHECK(read_file(folder / "a", 100) == "old");
  write_file_atomically(folder / "a", "new");
  CHECK(read_file(folder / "a", 100) == "new");
  CHECK(list_folder(folder.path()).size() == 1);
}

TEST_CASE("a rename that fails leaves no temporary file") {
  const TemporaryFolder folder;
  make_folders(folder / "taken/inside");
  CHECK_THROWS_AS(write_file_atomically(folder / "taken", "x"), SystemError);
  CHECK(list_folder(folder.path()).size() == 1);
}

TEST_CASE("an atomic write removes temporary files of killed processes, not those in use") {
  const TemporaryFolder folder;
  for (const char* name : {"a.tmp-123-0", "a.tmp-mine", "b.tmp-123-0"})
    write_file_atomically(folder / name, "left");
  AtomicFile living(folder / "a");
  write_file_atomically(folder / "a", "new");
  std::string names;
  for (const FolderEntry& entry : list_folder(folder.path())) names += entry.name + " ";
  const std::string its_name = name_of_path(living.file().path());
  const bool is_first = its_name < "a.tmp-mine";
  CHECK(is_first);
  CHECK(names == "a " + its_name + " a.tmp-mine b.tmp-123-0 ");
  living.file().write_at(0, "newer", 5);
  living.commit();
  CHECK(read_file(folder / "a", 100) == "newer");
}

TEST_CASE("an atomic write that fails at any call leaves the old or the new file") {
  const auto write = [](const std::string& path) {
    return message_of([&] { write_file_atomically(path, "new"); });
  };
  std::int64_t num_calls = 0;
  {
    const TemporaryFolder folder;
    const FaultScope count;
    CHECK(write(folder / "a") == "no error");
    num_calls = count.calls("*");
  }
  REQUIRE(num_calls > 8);
  for (std::int64_t k = 1; k <= num_calls; ++k) {
    CAPTURE(k);
    const TemporaryFolder folder;
    write_file_atomically(folder / "a", "old");
    std::string message;
    {
      const FaultScope scope(concat("*:", k, ":EIO"));
      message = write(folder / "a");
    }
    const std::string now = read_file(folder / "a", 100);
    CHECK((now == "new" || (now == "old" && message != "no error")));
    if (message != "no error") CHECK(message.find("Input/output error") != std::string::npos);
    CHECK(list_folder(folder.path()).size() == 1);
    {
      const FaultScope scope(concat("*:", k, ":EINTR"));
      CHECK(write(folder / "a") == "no error");
    }
  }
}

TEST_CASE("short reads and writes are continued") {
  const TemporaryFolder folder;
  const std::string bytes = "0123456789";
  const FaultScope scope("read:1:short,read:2:short,write:1:short,append:1:short,append:2:short");
  write_file_atomically(folder / "a", bytes);
  CHECK(read_file(folder / "a", 100) == bytes);
  CHECK(scope.calls("write") == 2);
  CHECK(scope.calls("read") == 3);
  File::open_append(folder / "a").append(bytes);
  CHECK(read_file(folder / "a", 100) == bytes + bytes);
}

TEST_CASE("the line writer appends after complete lines and removes a partial one") {
  const TemporaryFolder folder;
  LineWriter(folder / "m").write("one");
  LineWriter(folder / "m").write("two");
  CHECK(read_file(folder / "m", 100) == "one\ntwo\n");
  const std::string half(10'000, 'x');
  write_file_atomically(folder / "m", "one\n" + half);
  LineWriter(folder / "m").write("two");
  CHECK(read_file(folder / "m", 100) == "one\ntwo\n");
  write_file_atomically(folder / "m", half);
  LineWriter(folder / "m").write("one");
  CHECK(read_file(folder / "m", 100) == "one\n");
}

TEST_CASE("reads continue when timer signals interrupt them") {
  struct sigaction quiet {};
  struct sigaction before {};
  quiet.sa_handler = [](int) {};  // without SA_RESTART
  REQUIRE(::sigaction(SIGALRM, &quiet, &before) == 0);
  ::ualarm(200, 200);
  const TemporaryFolder folder;
  const std::string bytes(1 << 22, 'q');
  for (int i = 0; i < 5; ++i) {
    write_file_atomically(folder / "a", bytes);
    CHECK(read_file(folder / "a", 1 << 23) == bytes);
  }
  ::ualarm(0, 0);
  ::sigaction(SIGALRM, &before, nullptr);
}

TEST_CASE("only one open file holds the lock, until it is closed") {
  const TemporaryFolder folder;
  File first = File::open_append(folder / "lock");
  File second = File::open_append(folder / "lock");
  CHECK(first.try_lock() == LockResult::locked);
  CHECK(second.try_lock() == LockResult::held);
  first.close();
  CHECK(second.try_lock() == LockResult::locked);
}

TEST_CASE("files are written where the file system has no locks and cannot sync folders") {
  const TemporaryFolder folder;
  write_file_atomically(folder / "a.tmp-1-0", "may be in use");
  for (const char* lock_error : {"ENOSYS", "ENOLCK", "EOPNOTSUPP"}) {
    const FaultScope scope(concat("lock:1+:", lock_error, ",fsync:2:EINVAL"));
    CHECK(File::open(folder / "a.tmp-1-0").try_lock() == LockResult::unsupported);
    write_file_atomically(folder / "a", lock_error);
    CHECK(read_file(folder / "a", 100) == lock_error);
  }
  CHECK(kind_of(folder / "a.tmp-1-0") == PathKind::file);
  const FaultScope scope("fsync:1:EINVAL,fsync:2:EIO");
  CHECK_FALSE(sync_folder(folder.path()));
  CHECK_THROWS_AS(sync_folder(folder.path()), SystemError);
  CHECK(sync_folder(folder.path()));
}

TEST_CASE("no file is written through a link") {
  const TemporaryFolder folder;
  write_file_atomically(folder / "target", "precious");
  for (const char* name : {"log", "new"})
    REQUIRE(::symlink("target", (folder / name).c_str()) == 0);
  CHECK(message_of([&] { File::open_append(folder / "log"); }) ==
        concat("open ", folder / "log", ": is a link; links are not followed here"));
  CHECK_THROWS_AS(File::create(folder / "new"), SystemError);
  CHECK(!File::create_new(folder / "new"));
  // The names of temporary files are easy to guess.
  for (int count = 0; count < 2000; ++count)
    REQUIRE(::symlink("target", (folder / concat("a.tmp-", ::getpid(), "-", count)).c_str()) == 0);
  write_file_atomically(folder / "a", "new");
  CHECK(read_file(folder / "a", 100) == "new");
  CHECK(read_file(folder / "target", 100) == "precious");
}
