// SentencePiece model files (https://github.com/google/sentencepiece): a protocol buffer of pieces,
// trainer settings and normalization rules. Models are untrusted input: what could crash the
// library is rejected, and what would lose text is removed, before the library reads the model.
#pragma once
#include <string>
#include <string_view>

namespace smoe {

/// The settings of a model that decide how text becomes tokens, besides its pieces.
struct SentencePieceSettings {
  /// Written by smoe, or by a training with smoe's settings: no normalization and no dummy prefix;
  /// </s> begins documents. Other models keep their beginning and prefix.
  bool is_own = false;
  bool adds_prefix = true;    ///< a blank before each text
  std::string normalization;  ///< name of rules that would change text; empty: none
  bool is_bpe = false;
};

/// Throws: as as_lossless_model.
SentencePieceSettings settings_of(std::string_view model, const std::string& path);

/// The model file with the same pieces and settings in one form for all models with equal tokens:
/// without the rules of its normalization. Throws: as as_lossless_model.
std::string canonical_model(std::string_view model, const std::string& path);

/// A copy of `model` for the library to load, with the same pieces and settings, but without
/// normalization and without a dummy prefix.
/// Throws: UsageError, naming `path` and the problem, when `model` is not such a file, is damaged
/// or has invalid pieces.
std::string as_lossless_model(std::string_view model, const std::string& path);

}  // namespace smoe
