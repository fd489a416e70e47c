// The files of SentencePiece (https://github.com/google/sentencepiece): a model is a protocol
// buffer of pieces, of the trainer's settings and of rules that normalise text. What the library
// cannot be trusted to withstand, or what would lose text, is found or taken out before it reads
// the model.
#pragma once
#include <string>
#include <string_view>

namespace smoe {

/// The bytes of a model for the library to load: pieces and settings as in `model`, but text is
/// taken as it is, without normalisation, and no blank is put in front of it.
/// Throws: UsageError, naming `path` and what is wrong, when `model` is no such file, is damaged or
/// has pieces that no tokenizer has.
std::string as_lossless_model(std::string_view model, const std::string& path);

}  // namespace smoe
