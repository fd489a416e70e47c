// Untrusted text: UTF-8 validation, and a safe form of it for messages and terminals.
#pragma once
#include <cstddef>
#include <string>
#include <string_view>

namespace smoe {

/// Bytes of the UTF-8 character that `text` begins with; 0 when `text` is empty or invalid there.
/// Source: RFC 3629, section 4.
std::size_t utf8_length(std::string_view text);

/// Whether `c` is an ASCII control character.
bool is_control(char c);

/// Whether `text` is UTF-8 without control characters (C0, DEL, C1).
bool is_printable(std::string_view text);

/// The byte as two hexadecimal digits.
std::string hex_byte(char c);

/// `text` made safe for messages and terminals: one line of valid UTF-8. Line feeds and tabs become
/// \n and \t; other control characters (C0, DEL, C1) and invalid bytes become \xNN. Text that takes
/// more than about `max_bytes` is cut, and "..." appended.
std::string printable(std::string_view text, std::size_t max_bytes = 80);

/// `text` made safe for terminals as by printable, but of any length and with its line feeds.
std::string printable_lines(std::string_view text);

/// `text` made safe for terminals as by printable, but of any length and with its line feeds and
/// tabs.
std::string terminal_text(std::string_view text);

/// `text` as one word of a shell command: quoted unless it has only characters that need no quotes.
std::string shell_word(std::string_view text);

}  // namespace smoe
