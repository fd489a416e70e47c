#include "core/system/wrap.h"

#include <doctest/doctest.h>

using namespace smoe;

TEST_CASE("text is broken at spaces and indented") {
  CHECK(wrapped("data    a.h5: 391 k training tokens", 8, 20) ==
        "data    a.h5: 391 k\n        training\n        tokens");
  CHECK(wrapped("one two three", 0, 7) == "one two\nthree");
  CHECK(wrapped("one\ntwo three four\n", 2, 9) == "one\ntwo three\n  four\n");
}

TEST_CASE("text that fits, and text without a width, is unchanged") {
  CHECK(wrapped("", 8, 20).empty());
  CHECK(wrapped("folder  runs/tiny", 8, 17) == "folder  runs/tiny");
  CHECK(wrapped("one two three", 4, 0) == "one two three");
  CHECK(wrapped("one two three", 4, 4) == "one two three");
}

TEST_CASE("a word longer than the width has a line of its own") {
  CHECK(wrapped("at runs/a/long/folder of it", 2, 10) == "at\n  runs/a/long/folder\n  of it");
  CHECK(wrapped("runs/a/long/folder", 2, 10) == "runs/a/long/folder");
}
