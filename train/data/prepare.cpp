#include "train/data/prepare.h"

#include <chrono>
#include <future>
#include <numeric>

#include "core/base/check.h"
#include "core/system/folder.h"
#include "core/system/text.h"
#include "train/data/find_corpus.h"
#include "train/data/split_text.h"
#include "train/data/token_set.h"
#include "train/data/token_set_writer.h"
#include "train/tokenizer/tokenizer.h"
#include "train/tokenizer/train_sentencepiece.h"

namespace smoe {
namespace {

void check_options(const PrepareOptions& options) {
  SMOE_CHECK(options.validation_fraction >= 0 && options.validation_fraction < 1,
             "prepare: validation_fraction must be in [0, 1); got ", options.validation_fraction);
  const PathKind kind = kind_of(options.output);
  SMOE_CHECK(kind == PathKind::none || kind == PathKind::file, options.output,
             ": cannot be written: it is not a file");
  SMOE_CHECK(kind == PathKind::none || options.is_forced, options.output, ": exists already");
  SMOE_CHECK(options.vocab_size == 0 || options.tokenizer == "bpe",
             "prepare: vocab_size must be given only for the tokenizer bpe; got the tokenizer ",
             options.tokenizer);
  const bool is_kind = options.tokenizer == "bytes" || options.tokenizer == "bpe";
  SMOE_CHECK(is_kind || kind_of(options.tokenizer) == PathKind::file,
             "prepare: tokenizer must be bytes, bpe or a tokenizer file; got ", options.tokenizer);
  check_is_no_input(options.output, {options.tokenizer});
}

std::unique_ptr<Tokenizer> train_tokenizer(const PrepareOptions& options, const Corpus& corpus,
                                           const PrepareProgress& progress) {
  SplitText text(corpus, options.documents);
  TrainingSample sample(text, corpus.train_bytes, options.sample_bytes);
  const std::int64_t vocab_size = options.vocab_size > 0 ? options.vocab_size : kDefaultVocabSize;
  std::future<std::string> model = std::async(std::launch::async, [&] {
    return train_sentencepiece([&] { return sample.next(); }, vocab_size);
  });
  while (model.wait_for(std::chrono::milliseconds(100)) != std::future_status::ready)
    progress("training the tokenizer", 0, 0);
  return make_tokenizer(model.get(), "the trained tokenizer");
}

std::unique_ptr<Tokenizer> choose_tokenizer(const PrepareOptions& options, const Corpus& corpus,
                                            const PrepareProgress& progress) {
  if (options.tokenizer == "bytes") return std::make_unique<ByteTokenizer>();
  if (options.tokenizer == "bpe") return train_tokenizer(options, corpus, progress);
  if (is_token_set_file(options.tokenizer)) return TokenSet::open(options.tokenizer).tokenizer();
  return load_tokenizer(options.tokenizer);
}

TokenSetHeader encode(const PrepareOptions& options, const Corpus& corpus,
                      const Tokenizer& tokenizer, const PrepareProgress& progress) {
  TokenSetWriter writer(options.output, tokenizer, corpus.rule);
  SplitText text(corpus, options.documents);
  const std::int64_t total = corpus.text_bytes();
  SplitText::Piece piece;
  while (text.next(piece)) {
    if (piece.begins_document) writer.begin_document(piece.split);
    writer.append(piece.text);
    progress("encoding", text.bytes_done(), total);
  }
  return writer.finish();
}

}  // namespace

std::int64_t count_of(const FileKinds& kinds) {
  return std::accumulate(kinds.begin(), kinds.end(), std::int64_t{0},
                         [](std::int64_t sum, const auto& kind) { return sum + kind.second; });
}

std::string listed(const FileKinds& kinds) {
  std::string text;
  for (const auto& [extension, count] : kinds)
    text += concat(text.empty() ? "" : ", ", count, " ",
                   extension.empty() ? "without extension" : printable(extension));
  return text;
}

void SkippedFiles::add(const std::string& extension, const std::string& name) {
  ++kinds[extension];
  if (names.size() < kMaxNames) names.push_back(name);
}

std::string named(const SkippedFiles& files) {
  std::string text;
  for (const std::string& name : files.names)
    text += concat(text.empty() ? "" : ", ", printable(name));
  const auto num_unnamed = count_of(files.kinds) - static_cast<std::int64_t>(files.names.size());
  return num_unnamed == 0 ? text : concat(text, " and ", num_unnamed, " more");
}

PrepareSummary prepare_tokenizer(const PrepareOptions& options, const PrepareProgress& progress) {
  const auto start = std::chrono::steady_clock::now();
  PrepareOptions all = options;
  all.tokenizer = "bpe";
  all.validation_fraction = 0;
  check_options(all);
  PrepareSummary summary;
  const Corpus corpus = find_corpus(all, summary, progress);
  const std::unique_ptr<Tokenizer> tokenizer = train_tokenizer(all, corpus, progress);
  make_folders(parent_of(options.output));
  write_file_atomically(options.output, tokenizer->file_bytes());
  summary.tokenizer = tokenizer->summary();
  summary.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  return summary;
}

PrepareSummary prepare(const PrepareOptions& options, const PrepareProgress& progress) {
  const auto start = std::chrono::steady_clock::now();
  check_options(options);
  PrepareSummary summary;
  const Corpus corpus = find_corpus(options, summary, progress);
  const std::unique_ptr<Tokenizer> tokenizer = choose_tokenizer(options, corpus, progress);
  make_folders(parent_of(options.output));
  summary.header = encode(options, corpus, *tokenizer, progress);
  summary.tokenizer = tokenizer->summary();
  summary.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  return summary;
}

}  // namespace smoe
