#include "train/data/token_set_writer.h"

#include <doctest/doctest.h>

#include "core/system/folder.h"
#include "kernels/threads.h"
#include "tests/support/temporary_folder.h"
#include "tests/train/tokenizer/small_model.h"
#include "train/data/token_set.h"
#include "train/tokenizer/sentencepiece_tokenizer.h"

using namespace smoe;

namespace {

const Tokenizer& writer_tokenizer() {
  static const SentencePieceTokenizer tokenizer(test::small_model(), "small.model");
  return tokenizer;
}

// Of others: <s>, a blank, the text, </s>.
const Tokenizer& llama_tokenizer() {
  static const SentencePieceTokenizer tokenizer(
      test::small_model() + std::string("\x1a\x0e\x0a\x08identity\x18\x01\x20\x00", 16),
      "llama.model");
  return tokenizer;
}

// Words, in documents of all sizes: empty, short, longer than one chunk, and one without a place to
// cut.
std::vector<std::string> many_documents() {
  std::vector<std::string> documents = {"", "first"};
  std::string large;
  while (large.size() < 2'500'000) large += test::small_text();
  documents.push_back(large);
  for (int i = 0; i < 3000; ++i)
    documents.push_back(test::small_text().substr(static_cast<std::size_t>(i), 500));
  std::string wide = "x";
  while (wide.size() < 1'200'000) wide += "\xE2\x82\xAC";
  documents.push_back(wide);
  documents.insert(documents.end(), 5, "");
  documents.push_back("last");
  return documents;
}

void write(const std::string& path, const std::vector<std::string>& documents, std::size_t part,
           const Tokenizer& tokenizer = writer_tokenizer()) {
  TokenSetWriter writer(path, tokenizer);
  for (const Split split : {Split::train, Split::validation}) {
    for (const std::string& text : documents) {
      writer.begin_document(split);
      for (std::size_t begin = 0; begin < text.size(); begin += part)
        writer.append(std::string_view(text).substr(begin, part));
    }
  }
  writer.finish();
}

}  // namespace

TEST_CASE("the file is the same for any number of threads and any division of the text") {
  const TemporaryFolder folder;
  const std::vector<std::string> documents = many_documents();
  const int num_threads = kernels::cpu::num_threads();
  write(folder / "a", documents, 1 << 20);
  const std::string bytes = read_file(folder / "a", 1 << 26);
  kernels::cpu::set_num_threads(1);
  write(folder / "b", documents, 777);
  kernels::cpu::set_num_threads(num_threads);
  CHECK(read_file(folder / "b", 1 << 26) == bytes);
}

TEST_CASE("documents encoded in parts and in parallel have the same tokens as each by itself") {
  const TemporaryFolder folder;
  const std::vector<std::string> documents = many_documents();
  write(folder / "a", documents, 100'000);
  const TokenSet set = TokenSet::open(folder / "a");
  for (const Split split : {Split::train, Split::validation}) {
    std::vector<std::int32_t> tokens(static_cast<std::size_t>(set.num_tokens(split)));
    set.read(split, 0, set.num_tokens(split), tokens.data());
    std::vector<std::int32_t> expected;
    std::vector<std::int64_t> starts;
    for (const std::string& text : documents) {
      starts.push_back(static_cast<std::int64_t>(expected.size()));
      expected.push_back(writer_tokenizer().end_of_text());
      writer_tokenizer().encode(text, expected);
    }
    CHECK(set.document_starts(split) == starts);
    CHECK(tokens == expected);
  }
}

TEST_CASE("documents have the beginning, prefix and end of their tokenizer") {
  const TemporaryFolder folder;
  const Tokenizer& tokenizer = llama_tokenizer();
  const std::vector<std::string> documents = many_documents();
  write(folder / "a", documents, 100'000, tokenizer);
  const TokenSet set = TokenSet::open(folder / "a");
  for (const Split split : {Split::train, Split::validation}) {
    std::vector<std::int32_t> tokens(static_cast<std::size_t>(set.num_tokens(split)));
    set.read(split, 0, set.num_tokens(split), tokens.data());
    std::vector<std::int32_t> expected;
    std::vector<std::int64_t> starts;
    std::size_t text_bytes = 0;
    for (const std::string& text : documents) {
      starts.push_back(static_cast<std::int64_t>(expected.size()));
      expected.push_back(1);
      if (!text.empty()) tokenizer.encode(" " + text, expected);
      expected.push_back(2);
      text_bytes += text.size();
    }
    CHECK(set.document_starts(split) == starts);
    CHECK(tokens == expected);
    CHECK(set.num_bytes(split) == static_cast<std::int64_t>(text_bytes));
  }
}

TEST_CASE("exceptions of threads are rethrown, and no file is left") {
  class Failing : public ByteTokenizer {
   public:
    void encode(std::string_view text, std::vector<std::int32_t>&) const override {
      if (text.find("bad") != std::string_view::npos) throw UsageError("cannot encode");
    }
  };
  const TemporaryFolder folder;
  const Failing tokenizer;
  CHECK(message_of([&] {
          TokenSetWriter writer(folder / "a", tokenizer);
          writer.begin_document(Split::train);
          writer.append("bad");
          writer.finish();
        }) == "cannot encode");
  CHECK(list_folder(folder.path()).empty());
}
