// Text files to a token set: the work of `smoe prepare`.
#pragma once
#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "train/data/token_set_format.h"

namespace smoe {

struct PrepareOptions {
  std::vector<std::string> inputs{};  ///< files and folders; documents.h defines their documents
  std::vector<std::string> validation{};  ///< likewise for the validation split; may be empty
  std::string output{};
  std::string tokenizer = "bytes";       ///< "bytes", "bpe" to train one, a tokenizer file, or a
                                         ///< token set, for its tokenizer
  std::int64_t vocab_size = 0;           ///< of a bpe to train; 0: kDefaultVocabSize
  std::int64_t sample_bytes = 16 << 20;  ///< limit of the text that bpe is trained on
  std::string json_field = "text";       ///< field that holds the text of JSON lines
  double validation_fraction = 0.05;     ///< of the bytes, from the end; not with `validation`
  bool is_forced = false;                ///< replaces an existing output
};

inline constexpr std::int64_t kDefaultVocabSize = 32000;

struct PrepareSummary {
  TokenSetHeader header;
  std::string tokenizer;            ///< for people
  std::int64_t num_files = 0;       ///< files with text
  std::int64_t num_empty = 0;       ///< empty files, skipped
  std::int64_t num_json_lines = 0;  ///< of them, files of JSON lines
  /// Binary files in folders, skipped: their number by extension, "" for none.
  std::map<std::string, std::int64_t> binary{};
  double seconds = 0;  ///< elapsed time
};

/// Called periodically with the current stage, its bytes done and in total; 0 if the total is
/// unknown, as when training a tokenizer. An exception of the callback ends the work, but training
/// a tokenizer finishes first.
using PrepareProgress =
    std::function<void(const char* stage, std::int64_t done, std::int64_t total)>;

/// "2 .zst, 1 .png": the kinds in PrepareSummary::binary.
std::string listed_kinds(const std::map<std::string, std::int64_t>& binary);

/// Trains a SentencePiece tokenizer of options.vocab_size on all text of options.inputs and writes
/// it to options.output. Deterministic. Throws: as prepare.
PrepareSummary prepare_tokenizer(const PrepareOptions& options, const PrepareProgress& progress);

/// Reads all text twice, to measure and to encode it, and writes `options.output` atomically.
/// Memory grows with the number of files and as TokenSetWriter documents. A tokenizer is trained on
/// a sample of the training split. Deterministic.
/// Throws: UsageError, one line, naming the invalid option or input; SystemError.
PrepareSummary prepare(const PrepareOptions& options, const PrepareProgress& progress);

}  // namespace smoe
