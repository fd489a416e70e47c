// Trains a SentencePieceTokenizer: byte-pair encoding without normalization.
#pragma once
#include <cstdint>
#include <functional>
#include <string>
#include <string_view>

namespace smoe {

/// The contents of a model file with `vocab_size` tokens: unknown (never encoded), `<s>`, `</s>`,
/// 256 bytes, then pieces of the text. No piece spans two words, lines or tabs; digits are single
/// pieces. `next_text` returns the text in parts, an empty one at the end; several copies of the
/// text are held in memory. Deterministic.
/// Throws: UsageError when the text has fewer pieces than that, or more characters than fit; what
/// `next_text` throws.
std::string train_sentencepiece(const std::function<std::string_view()>& next_text,
                                std::int64_t vocab_size);

}  // namespace smoe
