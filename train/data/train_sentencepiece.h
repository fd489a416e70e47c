// Trains the pieces of a SentencePieceTokenizer: byte-pair encoding over text as it is.
#pragma once
#include <cstdint>
#include <functional>
#include <string>
#include <string_view>

namespace smoe {

/// The content of a model file with `vocab_size` tokens: unknown (never given out), `<s>`, `</s>`,
/// 256 bytes, then pieces of the text, of which none reaches from one word, line or tab into the
/// next, and digits stand alone. `next_text` gives the text in parts, an empty one at its end; all
/// of it is held in memory several times over. The same text and size give the same bytes.
/// Throws: UsageError when the text does not have that many pieces, or more characters than fit;
/// what `next_text` throws.
std::string train_sentencepiece(const std::function<std::string_view()>& next_text,
                                std::int64_t vocab_size);

}  // namespace smoe
