// Text from outside: whether it is text at all, and how messages show it.
#pragma once
#include <string>
#include <string_view>

namespace smoe {

/// Bytes of the UTF-8 character that `text` begins with; 0 if it is empty or begins with none.
/// Source: RFC 3629, section 4.
std::size_t utf8_length(std::string_view text);

/// Whether `c` is an ASCII control character.
bool is_control(char c);

/// Whether `text` is UTF-8 without ASCII control characters.
bool is_printable(std::string_view text);

/// The byte as two hexadecimal digits.
std::string hex_byte(char c);

/// `text` for a message: one line, in valid UTF-8, bytes that are no text as \xNN, a long tail cut.
std::string shown(std::string_view text);

}  // namespace smoe
