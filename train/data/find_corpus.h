// The first reading of the text to prepare: which files hold text, how much, and how it is split.
#pragma once
#include "train/data/prepare.h"
#include "train/data/split_text.h"

namespace smoe {

/// Reads all inputs once and counts into `summary` what they are.
/// Throws: UsageError when an input is the output, a file is in both splits or is not text, or a
/// split has no text; SystemError.
Corpus find_corpus(const PrepareOptions& options, PrepareSummary& summary,
                   const PrepareProgress& progress);

}  // namespace smoe
