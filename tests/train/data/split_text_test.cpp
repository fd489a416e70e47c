#include "train/data/split_text.h"

#include <doctest/doctest.h>

#include "tests/support/temporary_folder.h"

using namespace smoe;

namespace {

// Blocks of 64 KiB that begin with their index.
std::string numbered_blocks(int count) {
  std::string text;
  for (int i = 0; i < count; ++i) {
    text += std::to_string(i) + " ";
    text.resize(static_cast<std::size_t>(i + 1) << 16, '.');
  }
  return text;
}

std::string sample_of(const std::vector<TextSource>& sources, std::int64_t train_bytes,
                      std::int64_t sample_bytes) {
  SplitText text(sources, train_bytes, "text");
  TrainingSample sample(text, train_bytes, sample_bytes);
  std::string all;
  for (std::string_view part = sample.next(); !part.empty(); part = sample.next()) all += part;
  return all;
}

}  // namespace

TEST_CASE("a sample is the whole training split, or blocks spread evenly over it") {
  const TemporaryFolder folder;
  const std::string text = numbered_blocks(100);
  const auto size = static_cast<std::int64_t>(text.size());
  // The same text as one file, and as two files split inside a block.
  overwrite(folder / "one", text);
  overwrite(folder / "a", text.substr(0, 1'234'567));
  overwrite(folder / "b", text.substr(1'234'567));
  const std::vector<TextSource> one = {{folder / "one", size}};
  const std::vector<TextSource> two = {{folder / "a", 1'234'567}, {folder / "b", size - 1'234'567}};
  CHECK(sample_of(one, size, size) == text);
  CHECK(sample_of(one, size - 5, size) == text.substr(0, text.size() - 5));
  for (const std::int64_t bytes : {1 << 16, 10 << 16, 33 << 16, 99 << 16}) {
    const std::string sample = sample_of(one, size, bytes);
    CHECK(std::abs(static_cast<std::int64_t>(sample.size()) - bytes) <= 1 << 16);
    CHECK(sample_of(two, size, bytes) == sample);
  }
  const std::string tenth = sample_of(one, size, 10 << 16);
  int last = -1;
  for (std::size_t block = 0; block < tenth.size(); block += 1 << 16) {
    const int number = std::stoi(tenth.substr(block, 8));
    CHECK(number > last);
    CHECK(number - last <= 12);
    last = number;
  }
  CHECK(sample_of(one, 30 << 16, 10 << 16).find("31 ") == std::string::npos);
}

TEST_CASE("a source whose text changed is reported") {
  const TemporaryFolder folder;
  overwrite(folder / "a", "text");
  const std::vector<TextSource> sources = {{folder / "a", 5}};
  SplitText text(sources, 3, "text");
  SplitText::Piece piece;
  CHECK((text.next(piece) && piece.text == "tex" && piece.split == Split::train));
  CHECK(piece.begins_document);
  CHECK((text.next(piece) && piece.text == "t" && piece.split == Split::validation));
  CHECK(piece.begins_document);
  CHECK(message_of([&] { text.next(piece); }) ==
        folder / "a" + ": changed while it was read: 5 bytes of text before, 4 now");
}
