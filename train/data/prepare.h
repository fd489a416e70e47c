// Text to a token set: what `smoe prepare` does.
#pragma once
#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "train/data/token_set_format.h"

namespace smoe {

struct PrepareOptions {
  std::vector<std::string> inputs{};      ///< files and folders; their documents: documents.h
  std::vector<std::string> validation{};  ///< the same for the validation split; may be empty
  std::string output{};
  std::string tokenizer = "bytes";       ///< "bytes", "bpe" to train one, or a tokenizer's file
  std::int64_t vocab_size = 0;           ///< tokens to train; 0: kDefaultVocabSize. Only with bpe
  std::int64_t sample_bytes = 16 << 20;  ///< most text that bpe is trained on
  std::string json_field = "text";       ///< that holds the text of JSON lines
  double validation_fraction = 0.05;  ///< of the bytes, from the end; unless `validation` is given
  bool is_forced = false;             ///< replaces an output that exists
};

inline constexpr std::int64_t kDefaultVocabSize = 32000;

struct PrepareSummary {
  TokenSetHeader header;
  std::string tokenizer;        ///< for people
  std::int64_t num_files = 0;   ///< with text
  std::int64_t num_empty = 0;   ///< files without a byte, left out
  std::int64_t num_binary = 0;  ///< files in folders that are no text, left out
  double seconds = 0;           ///< that all of it took
};

/// Is told now and then how far the work is: which part of it, bytes done and in all, 0 where that
/// is not known, as of training a tokenizer. What it throws ends the work, but not before a
/// tokenizer is trained.
using PrepareProgress =
    std::function<void(const char* part, std::int64_t done, std::int64_t total)>;

/// Reads all text twice, to measure it and to encode it, in memory that grows by the paths of its
/// files and what TokenSetWriter says, and writes `options.output` whole or not at all. A tokenizer
/// is trained on a sample of the training split. The same text gives the same bytes.
/// Throws: UsageError for options or inputs that make no sense, each in one line that names it;
/// SystemError.
PrepareSummary prepare(const PrepareOptions& options, const PrepareProgress& progress);

}  // namespace smoe
