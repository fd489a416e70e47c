// Text files to a token set: the work of `smoe prepare`.
#pragma once
#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "train/data/documents.h"
#include "train/data/token_set_format.h"

namespace smoe {

struct PrepareOptions {
  std::vector<std::string> inputs{};      ///< files, folders and "-", standard input; documents.h
                                          ///< defines their documents
  std::vector<std::string> validation{};  ///< likewise for the validation split; may be empty
  std::string output{};
  std::string tokenizer = "bytes";       ///< "bytes", "bpe" to train one, a tokenizer file, or a
                                         ///< token set, for its tokenizer
  std::int64_t vocab_size = 0;           ///< of a bpe to train; 0: kDefaultVocabSize
  std::int64_t sample_bytes = 16 << 20;  ///< limit of the text that bpe is trained on
  DocumentOptions documents{};           ///< how documents are found in files
  double validation_fraction = 0.05;     ///< of the bytes of text; not with `validation`
  /// How this fraction is chosen. By documents, where they are too few to come near it, the end of
  /// the text is taken all the same.
  SplitRule split_rule = SplitRule::documents;
  bool is_forced = false;  ///< replaces an existing output
};

inline constexpr std::int64_t kDefaultVocabSize = 32000;

/// Numbers of files by extension, "" for none.
using FileKinds = std::map<std::string, std::int64_t>;

/// Files that were left out: all are counted, the first of them named.
struct SkippedFiles {
  static constexpr std::size_t kMaxNames = 5;
  FileKinds kinds{};
  std::vector<std::string> names{};  ///< at most kMaxNames

  void add(const std::string& extension, const std::string& name);
};

struct PrepareSummary {
  TokenSetHeader header;
  std::string tokenizer;   ///< for people
  FileKinds texts{};       ///< files that are one document each
  FileKinds json_lines{};  ///< files of JSON lines
  SkippedFiles binary{};   ///< binary files in folders
  SkippedFiles empty{};    ///< files without text
  std::int64_t num_bad_lines = 0;
  std::string first_bad_line{};  ///< its error
  double seconds = 0;            ///< elapsed time
};

/// Called periodically with the current stage, its bytes done and in total; -1 if the total is
/// unknown, and 0 while a tokenizer is trained. An exception of the callback ends the work, but
/// training a tokenizer finishes first.
using PrepareProgress =
    std::function<void(const char* stage, std::int64_t done, std::int64_t total)>;

/// The number of all files.
std::int64_t count_of(const FileKinds& kinds);
/// "2 .xz, 1 .png".
std::string listed(const FileKinds& kinds);
/// "in/a.xz, in/b.png and 7 more".
std::string named(const SkippedFiles& files);

/// Trains a SentencePiece tokenizer of options.vocab_size on all text of options.inputs and writes
/// it to options.output. Deterministic. Throws: as prepare.
PrepareSummary prepare_tokenizer(const PrepareOptions& options, const PrepareProgress& progress);

/// Reads all text twice, to measure and to encode it, and writes `options.output` atomically.
/// Memory grows with the number of files and as TokenSetWriter documents. A tokenizer is trained on
/// a sample of the training split. Deterministic.
/// Throws: UsageError, one line, naming the invalid option or input; SystemError.
PrepareSummary prepare(const PrepareOptions& options, const PrepareProgress& progress);

}  // namespace smoe
