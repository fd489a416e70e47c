// Text to a token set: what `smoe prepare` does.
#pragma once
#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "train/data/token_set_format.h"
#include "train/data/tokenizer.h"

namespace smoe {

struct PrepareOptions {
  std::vector<std::string> inputs{};      ///< files and folders; each file is one document
  std::vector<std::string> validation{};  ///< the same for the validation split; may be empty
  std::string output{};
  double validation_fraction = 0.05;  ///< of the bytes, from the end; unless `validation` is given
  bool is_forced = false;             ///< replaces an output that exists
};

struct PrepareSummary {
  TokenSetHeader header;
  std::int64_t num_files = 0;   ///< that became documents; one may lie in both splits
  std::int64_t num_empty = 0;   ///< files without a byte, left out
  std::int64_t num_binary = 0;  ///< files in folders that are no text, left out
};

/// Is told now and then how far the work is: which part of it, bytes done and in all. What it
/// throws ends the work.
using PrepareProgress =
    std::function<void(const char* part, std::int64_t done, std::int64_t total)>;

/// Reads all text twice, to measure it and to encode it, in memory that grows with the number of
/// files only, and writes `options.output` whole or not at all.
/// Throws: UsageError for options or inputs that make no sense, each in one line that names it;
/// SystemError.
PrepareSummary prepare(const PrepareOptions& options, const Tokenizer& tokenizer,
                       const PrepareProgress& progress);

}  // namespace smoe
