#include "train/data/token_set.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <string>
#include <vector>

#include "core/random.h"
#include "core/system/folder.h"
#include "tests/support/temporary_folder.h"
#include "tests/support/text.h"
#include "train/data/token_set_writer.h"

using namespace smoe;
using namespace smoe::test;

namespace {

using Documents = std::vector<std::string>;

std::string random_document(RandomStream& random, std::int64_t bytes) {
  std::string text(static_cast<std::size_t>(bytes), ' ');
  for (char& c : text) c = static_cast<char>(random.next_u32());
  return text;
}

TokenSetHeader write_set(const std::string& path, const Documents& train,
                         const Documents& validation, const Tokenizer& tokenizer = ByteTokenizer(),
                         std::size_t piece = 1000) {
  TokenSetWriter writer(path, tokenizer);
  const auto write_split = [&](Split split, const Documents& documents) {
    for (const std::string& text : documents) {
      writer.begin_document(split);
      for (std::size_t begin = 0; begin < text.size(); begin += piece)
        writer.append(std::string_view(text).substr(begin, piece));
    }
  };
  write_split(Split::train, train);
  write_split(Split::validation, validation);
  return writer.finish();
}

// The expected contents: each document after its end-of-text token.
std::vector<std::int32_t> tokens_of(const Documents& documents, const Tokenizer& tokenizer) {
  std::vector<std::int32_t> tokens;
  for (const std::string& text : documents) {
    tokens.push_back(tokenizer.end_of_text());
    tokenizer.encode(text, tokens);
  }
  return tokens;
}

// The complete contents of a set, in one comparable value.
struct Content {
  std::int64_t vocab_size;
  std::string tokenizer;
  std::vector<std::int32_t> tokens[2];
  std::vector<std::int64_t> starts[2];
  std::int64_t bytes[2];
  Digest digest;
  friend bool operator==(const Content&, const Content&) = default;
};

Content read_all(const std::string& path) {
  const TokenSet set = TokenSet::open(path);
  Content content{set.vocab_size(), set.tokenizer()->file_bytes(), {}, {}, {}, set.digest()};
  for (const Split split : {Split::train, Split::validation}) {
    const int i = static_cast<int>(split);
    content.tokens[i].resize(static_cast<std::size_t>(set.num_tokens(split)));
    set.read(split, 0, set.num_tokens(split), content.tokens[i].data());
    content.starts[i] = set.document_starts(split);
    content.bytes[i] = set.num_bytes(split);
  }
  return content;
}

// Words as numbers: a vocabulary too large for two bytes.
class WideTokenizer : public ByteTokenizer {
 public:
  std::int32_t vocab_size() const override { return 100'000; }
  std::int32_t end_of_text() const override { return 99'999; }
  void encode(std::string_view text, std::vector<std::int32_t>& tokens) const override {
    for (const char c : text) tokens.push_back(90'000 + static_cast<unsigned char>(c));
  }
};

// Flips `count` random bits of [begin, end), each in a fresh copy of the file, and counts the
// copies that were read without error but with other contents.
int silent_damage(const std::string& path, std::int64_t begin, std::int64_t end, int count) {
  const std::string original = read_file(path, 1 << 24);
  const Content content = read_all(path);
  RandomStream random(17, static_cast<std::uint64_t>(begin), static_cast<std::uint64_t>(end));
  int silent = 0;
  for (int i = 0; i < count; ++i) {
    const std::size_t position =
        static_cast<std::size_t>(begin) + random.below(static_cast<std::uint64_t>(end - begin));
    std::string damaged = original;
    damaged[position] ^= static_cast<char>(1 << random.below(8));
    File file = File::create(path + ".damaged");
    file.write_at(0, damaged.data(), static_cast<std::int64_t>(damaged.size()));
    std::string message;
    try {
      silent += read_all(path + ".damaged") != content;
    } catch (const UsageError& error) {
      message = error.what();
    }
    CAPTURE(position);
    // All bytes are covered by a digest: every flip is detected, and the error names the file.
    CHECK(contains(message, path + ".damaged: "));
    CHECK(!contains(message, "\n"));
  }
  return silent;
}

}  // namespace

TEST_CASE("a set returns its documents, token by token") {
  const TemporaryFolder folder;
  RandomStream random(1, 2);
  const Documents train = {"first", "", random_document(random, 70'001), "z"};
  const Documents validation = {random_document(random, 3001)};
  const ByteTokenizer tokenizer;
  const TokenSetHeader header = write_set(folder / "a.h5", train, validation);
  const TokenSet set = TokenSet::open(folder / "a.h5");
  CHECK(set.vocab_size() == 257);
  CHECK(set.tokenizer()->file_bytes() == tokenizer.file_bytes());
  CHECK(set.digest() == header.content_digest());
  CHECK(set.num_tokens(Split::train) == 70'007 + 4);
  CHECK(set.num_bytes(Split::train) == 70'007);
  CHECK(set.num_documents(Split::train) == 4);
  CHECK(set.num_tokens(Split::validation) == 3002);
  CHECK(set.document_starts(Split::train) == std::vector<std::int64_t>{0, 6, 7, 70'009});
  const Content content = read_all(folder / "a.h5");
  CHECK(content.tokens[0] == tokens_of(train, tokenizer));
  CHECK(content.tokens[1] == tokens_of(validation, tokenizer));
  // Any range.
  std::int32_t part[5];
  set.read(Split::validation, 2997, 5, part);
  CHECK(std::equal(part, part + 5, content.tokens[1].begin() + 2997));
  set.read(Split::validation, 3002, 0, part);
  CHECK_THROWS_AS(set.read(Split::validation, 2998, 5, part), UsageError);
  CHECK_THROWS_AS(set.read(Split::validation, -1, 2, part), UsageError);
}

TEST_CASE("tokens of a large vocabulary take four bytes") {
  const TemporaryFolder folder;
  const WideTokenizer tokenizer;
  const Documents train = {"some", "text"};
  write_set(folder / "a.h5", train, {"more"}, tokenizer);
  const TokenSet set = TokenSet::open(folder / "a.h5");
  CHECK(set.vocab_size() == 100'000);
  for (const auto& [split, documents] :
       {std::pair(Split::train, train), {Split::validation, {"more"}}}) {
    std::vector<std::int32_t> tokens(static_cast<std::size_t>(set.num_tokens(split)));
    set.read(split, 0, set.num_tokens(split), tokens.data());
    CHECK(tokens == tokens_of(documents, tokenizer));
  }
  CHECK(contains(message_of([&] { set.tokenizer(); }),
                 "a.h5: its vocabulary must be that of its tokenizer, 257 tokens"));
}

TEST_CASE("data ends within, at and after a block boundary") {
  const TemporaryFolder folder;
  // Data of just under, exactly and just over one and two blocks.
  for (const std::int64_t text : {(1 << 19) - 50, (1 << 19) - 47, (1 << 19), (1 << 20) + 3}) {
    RandomStream random(3, static_cast<std::uint64_t>(text));
    const Documents train = {random_document(random, text)};
    write_set(folder / "a.h5", train, {"v"});
    CHECK(read_all(folder / "a.h5").tokens[0] == tokens_of(train, ByteTokenizer()));
  }
}

TEST_CASE("the file depends only on the text, the digest on every part of the contents") {
  const TemporaryFolder folder;
  RandomStream random(5, 0);
  const Documents train = {random_document(random, 5000), "ab"};
  const Digest digest = write_set(folder / "a", train, {"v"}).content_digest();
  write_set(folder / "b", train, {"v"}, ByteTokenizer(), 17);
  CHECK(read_file(folder / "a", 1 << 20) == read_file(folder / "b", 1 << 20));
  CHECK(write_set(folder / "c", {train[0], "abv"}, {}).content_digest() != digest);
  CHECK(write_set(folder / "c", {train[0], "a", "b"}, {"v"}).content_digest() != digest);
  CHECK(write_set(folder / "c", {train[0], "ac"}, {"v"}).content_digest() != digest);
  CHECK(write_set(folder / "c", train, {"v"}, WideTokenizer()).content_digest() != digest);
}

TEST_CASE("a set without validation text is valid, one without training text is not") {
  const TemporaryFolder folder;
  write_set(folder / "a.h5", {"text"}, {});
  CHECK(read_all(folder / "a.h5").tokens[1].empty());
  CHECK_THROWS_AS(write_set(folder / "b.h5", {}, {"text"}), UsageError);
  CHECK(list_folder(folder.path()).size() == 1);
}

TEST_CASE("any flipped bit is detected, without silent changes or crashes") {
  const TemporaryFolder folder;
  RandomStream random(7, 0);
  const TokenSetHeader header =
      write_set(folder / "a.h5", {random_document(random, 20'000), random_document(random, 100)},
                {random_document(random, 2000)});
  const std::int64_t digests = header.file_bytes - 16;
  CHECK(silent_damage(folder / "a.h5", 0, 512, 400) == 0);
  CHECK(silent_damage(folder / "a.h5", 512, header.metadata_bytes, 400) == 0);
  CHECK(silent_damage(folder / "a.h5", header.metadata_bytes, digests, 100) == 0);
  CHECK(silent_damage(folder / "a.h5", digests, header.file_bytes, 25) == 0);
}

TEST_CASE("zeroed pages are detected") {
  const TemporaryFolder folder(fast_parent());
  RandomStream random(9, 0);
  write_set(folder / "a.h5", {random_document(random, 30'000)}, {random_document(random, 2000)});
  const std::string whole = read_file(folder / "a.h5", 1 << 20);
  const Content content = read_all(folder / "a.h5");
  for (std::size_t position = 0; position < whole.size(); position += 256) {
    CAPTURE(position);
    std::string zeroed = whole;
    const std::size_t end = std::min(position + 512, whole.size());
    std::fill(zeroed.begin() + position, zeroed.begin() + end, '\0');
    if (zeroed == whole) continue;
    overwrite(folder / "b.h5", zeroed);
    CHECK(contains(message_of([&] { read_all(folder / "b.h5"); }), "b.h5: "));
  }
  CHECK(read_all(folder / "a.h5") == content);
}

TEST_CASE("damage to one block leaves the others readable and names the bytes") {
  const TemporaryFolder folder;
  RandomStream random(8, 0);
  const TokenSetHeader header =
      write_set(folder / "a.h5", {random_document(random, 1'700'000)}, {"validation"});
  CHECK(silent_damage(folder / "a.h5", header.metadata_bytes, header.file_bytes, 20) == 0);
  File file = File::create(folder / "b.h5");
  std::string bytes = read_file(folder / "a.h5", 1 << 24);
  bytes[static_cast<std::size_t>(header.metadata_bytes + (1 << 20) + 5)] ^= 1;
  file.write_at(0, bytes.data(), static_cast<std::int64_t>(bytes.size()));
  const TokenSet set = TokenSet::open(folder / "b.h5");
  std::vector<std::int32_t> tokens(100);
  set.read(Split::train, 100, 100, tokens.data());
  const auto read_damaged = [&] { set.read(Split::train, (1 << 19) - 50, 100, tokens.data()); };
  const std::int64_t begin = header.metadata_bytes + (1 << 20);
  const std::string where = concat("bytes ", begin, " to ", begin + (1 << 20) - 1);
  CHECK(contains(message_of(read_damaged), where));
  CHECK(contains(message_of(read_damaged), where));  // the failed check is not cached
  set.read(Split::train, 1 << 20, 100, tokens.data());
}

TEST_CASE("a truncated or extended file is reported") {
  const TemporaryFolder folder;
  const TokenSetHeader header = write_set(folder / "a.h5", {std::string(3000, 'x')}, {"v"});
  const std::string bytes = read_file(folder / "a.h5", 1 << 20);
  for (std::int64_t size = 0; size < header.file_bytes; size += size < 600 ? 1 : 531) {
    File file = File::create(folder / "b.h5");
    file.write_at(0, bytes.data(), size);
    CAPTURE(size);
    const std::string message = message_of([&] { TokenSet::open(folder / "b.h5"); });
    CHECK(contains(message, "b.h5: "));
    if (size > 100) CHECK(contains(message, "truncated"));
  }
  File file = File::create(folder / "b.h5");
  file.write_at(0, bytes.data(), header.file_bytes);
  file.resize(header.file_bytes + 1);
  CHECK(contains(message_of([&] { TokenSet::open(folder / "b.h5"); }), "damaged: it has"));
}

TEST_CASE("other files are refused") {
  const TemporaryFolder folder;
  const auto message_for = [&](const std::string& bytes) {
    write_file_atomically(folder / "a", bytes);
    return message_of([&] { TokenSet::open(folder / "a"); });
  };
  CHECK(contains(message_for("Just some text."), "not a token set"));
  CHECK(contains(message_for(""), "not a token set"));
  CHECK(contains(message_for(layout_hdf5({{.name = "x", .shape = {3}}}, 0).metadata), "HDF5 file"));
  std::string future = TokenSetHeader().to_bytes();
  future.replace(future.find("version 1"), 9, "version 2");
  CHECK(contains(message_for(future), "version 2; this program reads version 1"));
  CHECK(contains(message_of([&] { TokenSet::open(folder / "none"); }), "No such file"));
}

TEST_CASE("ids outside the vocabulary are refused even if all digests match") {
  class LyingTokenizer : public ByteTokenizer {
   public:
    void encode(std::string_view, std::vector<std::int32_t>& tokens) const override {
      tokens.insert(tokens.end(), {256, 257});
    }
  };
  const TemporaryFolder folder;
  write_set(folder / "a.h5", {"x"}, {}, LyingTokenizer());
  CHECK(contains(message_of([&] { read_all(folder / "a.h5"); }),
                 "/train/tokens: token ids must be below 257; got 257"));
}

TEST_CASE("a set that changes in place while it is read is refused") {
  const TemporaryFolder folder;
  RandomStream random(5, 0);
  const std::string path = folder / "a.h5";
  const TokenSetHeader header =
      write_set(path, {random_document(random, 1'700'000)}, {"validation"});
  const TokenSet set = TokenSet::open(path);
  std::vector<std::int32_t> tokens(1000), again(1000);
  set.read(Split::train, 30'000, 1000, tokens.data());
  set.read(Split::train, 30'000, 1000, again.data());
  CHECK(tokens == again);
  // Zeros are ids of the vocabulary: only the digests differ.
  std::string bytes = read_file(path, 1 << 24);
  std::fill_n(bytes.begin() + header.metadata_bytes + 2 * 30'500, 2000, '\0');
  overwrite(path, bytes);
  const std::string message =
      message_of([&] { set.read(Split::train, 30'000, 1000, tokens.data()); });
  CHECK(contains(message, path + ": changed while it was open: bytes "));
  set.read(Split::train, 200'000, 1000, tokens.data());  // other pages are intact
  CHECK(contains(message_of([&] { read_all(path); }), path + ": damaged: "));
}
