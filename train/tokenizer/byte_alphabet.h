// The characters in which byte-level vocabularies write bytes, as GPT-2's does.
#pragma once
#include <array>
#include <optional>
#include <string>
#include <string_view>

namespace smoe {

/// The character of each byte, in UTF-8: the byte's own if it is printable in Latin-1, else the
/// next unused one from U+0100.
const std::array<std::string, 256>& byte_characters();

/// The bytes that `piece`, which is UTF-8, writes; no value if it has other characters.
std::optional<std::string> bytes_of_piece(std::string_view piece);

}  // namespace smoe
