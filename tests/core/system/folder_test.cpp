#include "core/system/folder.h"

#include <doctest/doctest.h>
#include <unistd.h>

#include <string>

#include "core/base/check.h"
#include "core/system/fault.h"
#include "core/system/file.h"
#include "tests/support/temporary_folder.h"

using namespace smoe;

TEST_CASE("an entry that cannot be examined is an error, not skipped") {
  const TemporaryFolder folder;
  write_file_atomically(folder / "a", "");
  const FaultScope scope("stat:1:EIO");
  CHECK(message_of([&] { list_folder(folder.path()); }) ==
        "stat " + folder.path() + "/a: Input/output error");
}

TEST_CASE("folders are created, listed in order and removed without following links") {
  const TemporaryFolder folder;
  make_folders(folder / "a/b/c");
  make_folders(folder / "a/b/c/");
  write_file_atomically(folder / "a/z", "12");
  write_file_atomically(folder / "a/B", "");
  write_file_atomically(folder / "kept", "here");
  REQUIRE(::symlink(folder.path().c_str(), (folder / "a/link").c_str()) == 0);
  REQUIRE(::symlink("nowhere", (folder / "a/dangling").c_str()) == 0);
  const auto entries = list_folder(folder / "a");
  REQUIRE(entries.size() == 5);
  CHECK(entries[0].name == "B");
  CHECK((entries[1].name == "b" && entries[1].kind == PathKind::folder && !entries[1].is_link));
  CHECK((entries[2].name == "dangling" && entries[2].kind == PathKind::none));
  CHECK((entries[3].name == "link" && entries[3].kind == PathKind::folder && entries[3].is_link));
  CHECK((entries[4].name == "z" && entries[4].bytes == 2 && entries[4].kind == PathKind::file));
  CHECK_THROWS_AS(make_new_folder(folder / "a"), SystemError);
  CHECK_THROWS_AS(make_folders(folder / "a/z"), SystemError);
  CHECK_THROWS_AS(make_folders(folder / "a/z/inside"), SystemError);
  CHECK_THROWS_AS(make_folders("/proc/none/inside"), SystemError);
  REQUIRE(::symlink((folder / "a").c_str(), (folder / "way").c_str()) == 0);
  CHECK(remove_folder(folder / "way"));
  CHECK(list_folder(folder / "a").size() == 5);
  CHECK(remove_folder(folder / "a"));
  CHECK(!remove_folder(folder / "a"));
  CHECK(read_file(folder / "kept", 100) == "here");
  CHECK(!remove_file(folder / "a"));
  CHECK_THROWS_AS(list_folder(folder / "a"), SystemError);
}

TEST_CASE("paths are the same when they lead to the same folder") {
  const TemporaryFolder folder;
  make_folders(folder / "a/b");
  REQUIRE(::symlink("a", (folder / "link").c_str()) == 0);
  CHECK(is_same_path(folder / "a/b", folder / "./link//b"));
  CHECK(!is_same_path(folder / "a/b", folder / "a"));
  CHECK(!is_same_path(folder / "none", folder / "none"));
}

TEST_CASE("parent and name of a path") {
  CHECK(parent_of("a/b/c") == "a/b");
  CHECK(parent_of("a/b/") == "a");
  CHECK(parent_of("a//b") == "a");
  CHECK(parent_of("c") == ".");
  CHECK(parent_of("/c") == "/");
  CHECK(parent_of("/") == "/");
  CHECK(name_of_path("a/b/c") == "c");
  CHECK(name_of_path("a/b/") == "b");
  CHECK(name_of_path("c") == "c");
}

TEST_CASE("an atomic folder appears complete, or not at all") {
  const TemporaryFolder folder;
  make_folders(folder / ".tmp-new/left");  // by a killed process
  {
    const AtomicFolder dropped(folder / "new");
    write_file_atomically(dropped.temporary_path() + "/a", "text");
  }
  CHECK(list_folder(folder.path()).empty());
  AtomicFolder kept(folder / "new/");
  write_file_atomically(kept.temporary_path() + "/a", "text");
  CHECK(kind_of(folder / "new") == PathKind::none);
  kept.commit();
  CHECK(kept.path() == folder / "new");
  CHECK(kind_of(folder / "new/a") == PathKind::file);
  CHECK_THROWS_AS(AtomicFolder(folder / "new"), UsageError);
  CHECK(list_folder(folder.path()).size() == 1);
}

TEST_CASE("what cannot be removed does not keep the rest of a folder") {
  const TemporaryFolder folder;
  for (const char* name : {"a/b/1", "a/b/2", "a/c/3"}) {
    make_folders(parent_of(folder / name));
    write_file_atomically(folder / name, "");
  }
  {
    const FaultScope scope("unlink:1:EACCES");
    CHECK(message_of([&] { remove_folder(folder / "a"); }) ==
          concat("remove ", folder / "a/b/1", ": Permission denied"));
  }
  CHECK(kind_of(folder / "a/b/2") == PathKind::none);
  CHECK(kind_of(folder / "a/c") == PathKind::none);
  CHECK(remove_folder(folder / "a"));
  write_file_atomically(folder / "file", "");
  CHECK(remove_folder(folder / "file"));
}

TEST_CASE("of two processes that create the same folder, the second is refused") {
  const TemporaryFolder folder;
  AtomicFolder first(folder / "new");
  write_file_atomically(first.temporary_path() + "/a", "text");
  CHECK(message_of([&] { AtomicFolder(folder / "new"); }) ==
        concat(folder / "new", ": another process is creating it"));
  first.commit();
  CHECK(kind_of(folder / "new/a") == PathKind::file);
}
