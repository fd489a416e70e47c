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

TextSource source(const std::string& path, std::int64_t text_bytes) {
  return {.file = {.path = path, .name = path, .real_path = path}, .text_bytes = text_bytes};
}

Corpus corpus_of(const std::vector<TextSource>& sources, std::int64_t train_bytes) {
  Corpus corpus;
  corpus.sources = sources;
  corpus.train_bytes = train_bytes;
  return corpus;
}

std::string sample_of(const std::vector<TextSource>& sources, std::int64_t train_bytes,
                      std::int64_t sample_bytes) {
  const Corpus corpus = corpus_of(sources, train_bytes);
  SplitText text(corpus, {});
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
  const std::vector<TextSource> one = {source(folder / "one", size)};
  const std::vector<TextSource> two = {source(folder / "a", 1'234'567),
                                       source(folder / "b", size - 1'234'567)};
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
  const Corpus corpus = corpus_of({source(folder / "a", 5)}, 3);
  SplitText text(corpus, {});
  SplitText::Piece piece;
  CHECK((text.next(piece) && piece.text == "tex" && piece.split == Split::train));
  CHECK(piece.begins_document);
  CHECK((text.next(piece) && piece.text == "t" && piece.split == Split::validation));
  CHECK(piece.begins_document);
  CHECK(message_of([&] { text.next(piece); }) ==
        folder / "a" + ": changed while it was read: 5 bytes of text before, 4 now");
}

TEST_CASE("documents are chosen by a hash: first those of training, then those of validation") {
  const TemporaryFolder folder;
  std::string lines;
  std::vector<std::string> documents;
  for (int i = 0; i < 400; ++i) {
    documents.push_back("document " + std::to_string(i * 7919));
    lines += "{\"text\": \"" + documents.back() + "\"}\n";
  }
  overwrite(folder / "a.jsonl", lines);
  overwrite(folder / "b.txt", std::string(3'000'000, 'b'));  // in several pieces
  const ValidationChoice choice(0.25);
  std::int64_t a_bytes = 0;
  for (const std::string& document : documents)
    a_bytes += static_cast<std::int64_t>(document.size());
  Corpus corpus =
      corpus_of({source(folder / "a.jsonl", a_bytes), source(folder / "b.txt", 3'000'000)}, 0);
  corpus.rule = SplitRule::documents;
  corpus.validation_fraction = 0.25;
  documents.push_back(std::string(3'000'000, 'b'));
  std::vector<std::string> wanted[kNumSplits], got[kNumSplits];
  for (const std::string& document : documents)
    wanted[choice.is_chosen(document) ? 1 : 0].push_back(document);
  SplitText text(corpus, {});
  Split last = Split::train;
  for (SplitText::Piece piece; text.next(piece); last = piece.split) {
    CHECK(piece.split >= last);
    auto& list = got[static_cast<int>(piece.split)];
    if (piece.begins_document) list.emplace_back();
    list.back() += piece.text;
  }
  SplitText::Piece none;
  CHECK(!text.next(none));
  CHECK(got[0] == wanted[0]);
  CHECK(got[1] == wanted[1]);
  CHECK(wanted[1].size() > 70);
  CHECK(wanted[1].size() < 130);
  CHECK(text.bytes_done() == a_bytes + 3'000'000);
}

TEST_CASE("a document is chosen by its first 64 KiB alone") {
  const ValidationChoice half(0.5), none(0);
  const std::string beginning(1 << 16, 'x');
  CHECK(half.is_chosen(beginning) == half.is_chosen(beginning + "more"));
  CHECK(!none.is_chosen("text"));
}
