#include "train/data/text_reader.h"

#include <doctest/doctest.h>

#include <chrono>
#include <thread>

#include "tests/support/temporary_folder.h"
#include "tests/support/text.h"
#include "tests/train/data/compress.h"
#include "tests/train/data/prepared.h"

using namespace smoe;
using namespace smoe::test;

namespace {

std::string text_of_file(const std::string& path) {
  TextReader reader(path, path);
  std::string text;
  for (std::string_view piece = reader.next(); !piece.empty(); piece = reader.next()) text += piece;
  return text;
}

}  // namespace

TEST_CASE("zeros behind gzip data are padding, other bytes are an error") {
  const TemporaryFolder folder;
  write_file_atomically(folder / "a.GZ", gzip("one") + gzip("two") + std::string(512, '\0'));
  CHECK(text_of_file(folder / "a.GZ") == "onetwo");
  write_file_atomically(folder / "b.gz", gzip("one") + std::string(5, '\0') + "junk");
  CHECK(message_of([&] {
          text_of_file(folder / "b.gz");
        }).find("holds other data after its gzip") != std::string::npos);
}

TEST_CASE("zstd files are read: several frames, skipped ones, zeros behind them") {
  const TemporaryFolder folder;
  const std::string text = counting_text(3'000'000);
  const std::string skipped("\x50\x2A\x4D\x18\x03\0\0\0abc", 11);
  const std::string packed = zstd(text);
  write_file_atomically(folder / "a.ZST", packed + skipped + zstd("two") + std::string(512, '\0'));
  CHECK(text_of_file(folder / "a.ZST") == text + "two");
  write_file_atomically(folder / "by-content", packed);
  CHECK(text_of_file(folder / "by-content") == text);
  const auto message_for = [&](const std::string& bytes) {
    write_file_atomically(folder / "b.zst", bytes);
    return message_of([&] { text_of_file(folder / "b.zst"); });
  };
  for (std::size_t size = 0; size < packed.size(); size += packed.size() / 20)
    CHECK(contains(message_for(packed.substr(0, size)),
                   "b.zst: truncated: its zstd data end at byte"));
  CHECK(contains(message_for(packed + "tail"), "b.zst: holds other data after its zstd data"));
  CHECK(contains(message_for("just text"), "b.zst: damaged zstd data before byte"));
}

TEST_CASE("gzip files are decompressed, also with several members") {
  const TemporaryFolder folder;
  const std::string text = counting_text(3'000'000);
  write_file_atomically(folder / "one.gz", gzip(text));
  CHECK(text_of_file(folder / "one.gz") == text);
  write_file_atomically(folder / "two.gz", gzip(text) + gzip("") + gzip("end"));
  CHECK(text_of_file(folder / "two.gz") == text + "end");
  write_file_atomically(folder / "plain", text);
  run({.inputs = {folder / "one.gz"}, .output = folder / "packed"});
  // Long enough for a time stamp in the file to differ.
  std::this_thread::sleep_for(std::chrono::milliseconds(1100));
  run({.inputs = {folder / "plain"}, .output = folder / "unpacked"});
  CHECK(read_file(folder / "packed", 1 << 24) == read_file(folder / "unpacked", 1 << 24));
}

TEST_CASE("damaged and truncated gzip files are reported") {
  const TemporaryFolder folder;
  const std::string packed = gzip(counting_text(20'000));
  const auto message_for = [&](const std::string& bytes) {
    write_file_atomically(folder / "a.gz", bytes);
    return message_of([&] { text_of_file(folder / "a.gz"); });
  };
  for (std::size_t size = 0; size < packed.size(); size += 997)
    CHECK(contains(message_for(packed.substr(0, size)), "a.gz: truncated"));
  std::string flipped = packed;
  flipped[packed.size() / 2] ^= 16;
  CHECK(contains(message_for(flipped), "a.gz: damaged gzip data before byte"));
  CHECK(contains(message_for("just text"), "a.gz: damaged gzip data before byte"));
  CHECK(contains(message_for(packed + "tail"), "a.gz: holds other data"));
}
