#include "train/data/prepare.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <future>
#include <numeric>
#include <set>

#include "core/base/check.h"
#include "core/system/folder.h"
#include "core/system/text.h"
#include "train/data/split_text.h"
#include "train/data/token_set.h"
#include "train/data/token_set_writer.h"
#include "train/data/tokenizer.h"
#include "train/data/train_sentencepiece.h"

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
}

void check_disjoint(const std::vector<TextFile>& files, const std::vector<TextFile>& others) {
  std::set<std::string_view> paths;
  for (const TextFile& file : files) paths.insert(file.real_path);
  for (const TextFile& file : others)
    SMOE_CHECK(!paths.contains(file.real_path), file.path,
               ": is in both the training and the validation input");
}

void check_output_is_no_input(const std::string& output, const std::vector<TextFile>& files) {
  if (kind_of(output) != PathKind::file) return;
  const std::string real_path = absolute_path(output);
  for (const TextFile& file : files)
    SMOE_CHECK(file.real_path != real_path, output, ": cannot be written: it is an input");
}

std::string extension_of(const std::string& path) {
  const std::string name = name_of_path(path);
  const std::size_t dot = name.rfind('.');
  return dot == std::string::npos || dot == 0 ? "" : name.substr(dot);
}

// The `files` that contain text, with its size; counts the skipped ones.
std::vector<TextSource> measure(const std::vector<TextFile>& files, const std::string& json_field,
                                PrepareSummary& summary, const PrepareProgress& progress) {
  const std::int64_t total =
      std::accumulate(files.begin(), files.end(), std::int64_t{0},
                      [](std::int64_t sum, const TextFile& file) { return sum + file.bytes; });
  std::vector<TextSource> sources;
  std::int64_t done = 0;
  for (const TextFile& file : files) {
    DocumentReader reader(file.path, json_field);
    TextPiece piece;
    bool has_piece = reader.next(piece);
    const bool is_json = is_json_lines(file.path, json_field);
    const bool is_text = is_json || !is_binary(piece.text);
    SMOE_CHECK(is_text || !file.is_named, file.path, ": is not text: it contains zero bytes");
    std::int64_t text_bytes = 0;
    for (; is_text && has_piece; has_piece = reader.next(piece)) {
      text_bytes += static_cast<std::int64_t>(piece.text.size());
      progress("measuring", done + reader.bytes_read(), total);
    }
    done += file.bytes;
    if (!is_text) ++summary.binary[extension_of(file.path)];
    summary.num_empty += is_text && text_bytes == 0;
    summary.num_json_lines += is_json && text_bytes > 0;
    if (text_bytes > 0) sources.push_back({file.path, text_bytes});
  }
  summary.num_files += static_cast<std::int64_t>(sources.size());
  return sources;
}

std::int64_t text_bytes_of(const std::vector<TextSource>& sources) {
  return std::accumulate(sources.begin(), sources.end(), std::int64_t{0},
                         [](std::int64_t sum, const TextSource& s) { return sum + s.text_bytes; });
}

// All text to encode.
struct Corpus {
  std::vector<TextSource> sources;
  std::int64_t train_bytes = 0;  // the remainder is the validation split
};

Corpus find_corpus(const PrepareOptions& options, PrepareSummary& summary,
                   const PrepareProgress& progress) {
  const bool has_own_validation = !options.validation.empty();
  const std::vector<TextFile> files = list_text_files(options.inputs);
  const std::vector<TextFile> validation_files =
      has_own_validation ? list_text_files(options.validation) : std::vector<TextFile>();
  check_disjoint(files, validation_files);
  check_output_is_no_input(options.output, files);
  check_output_is_no_input(options.output, validation_files);
  Corpus corpus;
  corpus.sources = measure(files, options.json_field, summary, progress);
  corpus.train_bytes = text_bytes_of(corpus.sources);
  SMOE_CHECK(corpus.train_bytes > 0, options.inputs.front(), ": no text in ", files.size(),
             " files: ", summary.num_empty, " empty, ", files.size() - summary.num_empty, " binary",
             summary.binary.empty() ? "" : ": " + listed_kinds(summary.binary));
  if (has_own_validation) {
    const auto more = measure(validation_files, options.json_field, summary, progress);
    SMOE_CHECK(!more.empty(), options.validation.front(), ": no text to validate on");
    corpus.sources.insert(corpus.sources.end(), more.begin(), more.end());
    return corpus;
  }
  const std::int64_t input_bytes = corpus.train_bytes;
  const double share = options.validation_fraction * static_cast<double>(input_bytes);
  // Even a text of a few bytes yields one byte to validate on.
  if (share > 0) corpus.train_bytes -= std::max<std::int64_t>(1, std::llround(share));
  SMOE_CHECK(corpus.train_bytes > 0, options.inputs.front(), ": ", input_bytes,
             " bytes of text leave none for the training split");
  return corpus;
}

std::unique_ptr<Tokenizer> train_tokenizer(const PrepareOptions& options, const Corpus& corpus,
                                           const PrepareProgress& progress) {
  SplitText text(corpus.sources, corpus.train_bytes, options.json_field);
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
  TokenSetWriter writer(options.output, tokenizer);
  SplitText text(corpus.sources, corpus.train_bytes, options.json_field);
  const std::int64_t total = text_bytes_of(corpus.sources);
  SplitText::Piece piece;
  while (text.next(piece)) {
    if (piece.begins_document) writer.begin_document(piece.split);
    writer.append(piece.text);
    progress("encoding", text.bytes_done(), total);
  }
  return writer.finish();
}

}  // namespace

std::string listed_kinds(const std::map<std::string, std::int64_t>& binary) {
  std::string text;
  for (const auto& [extension, count] : binary)
    text += concat(text.empty() ? "" : ", ", count, " ",
                   extension.empty() ? "without extension" : printable(extension));
  return text;
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
