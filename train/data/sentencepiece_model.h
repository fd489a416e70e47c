// SentencePiece model files (https://github.com/google/sentencepiece): a protocol buffer of pieces,
// trainer settings and normalization rules. Models are untrusted input: what could crash the
// library is rejected, and what would lose text is removed, before the library reads the model.
#pragma once
#include <string>
#include <string_view>

namespace smoe {

/// A copy of `model` for the library to load, with the same pieces and settings, but without
/// normalization and without a dummy prefix.
/// Throws: UsageError, naming `path` and the problem, when `model` is not such a file, is damaged
/// or has invalid pieces.
std::string as_lossless_model(std::string_view model, const std::string& path);

}  // namespace smoe
