#include "core/system/text.h"

#include <algorithm>

namespace smoe {
namespace {

// U+0080 to U+009F; terminals treat U+009B as the start of an escape sequence.
bool is_c1_control(std::string_view character) {
  return character.size() == 2 && character[0] == '\xc2' &&
         static_cast<unsigned char>(character[1]) < 0xa0;
}

}  // namespace

std::size_t utf8_length(std::string_view text) {
  const auto byte = [&](std::size_t i) {
    return i < text.size() ? static_cast<unsigned char>(text[i]) : 0u;
  };
  const unsigned first = byte(0);
  if (text.empty() || first < 0x80) return text.empty() ? 0 : 1;
  const std::size_t length = first < 0xc2 ? 0 : first < 0xe0 ? 2 : first < 0xf0 ? 3 : 4;
  if (length == 0 || first > 0xf4) return 0;
  for (std::size_t i = 1; i < length; ++i)
    if ((byte(i) & 0xc0) != 0x80) return 0;
  const bool is_overlong = (first == 0xe0 && byte(1) < 0xa0) || (first == 0xf0 && byte(1) < 0x90);
  const bool is_surrogate = first == 0xed && byte(1) >= 0xa0;
  const bool is_too_large = first == 0xf4 && byte(1) >= 0x90;
  return is_overlong || is_surrogate || is_too_large ? 0 : length;
}

bool is_control(char c) {
  return static_cast<unsigned char>(c) < 0x20 || c == 0x7f;
}

bool is_printable(std::string_view text) {
  while (!text.empty()) {
    const std::size_t length = utf8_length(text);
    if (length == 0 || is_control(text[0]) || is_c1_control(text.substr(0, length))) return false;
    text.remove_prefix(length);
  }
  return true;
}

std::string hex_byte(char c) {
  constexpr char kDigits[] = "0123456789abcdef";
  const auto byte = static_cast<unsigned char>(c);
  return {kDigits[byte >> 4], kDigits[byte & 15]};
}

std::string printable(std::string_view text, std::size_t max_bytes) {
  std::string out;
  while (!text.empty() && out.size() < max_bytes) {
    const std::size_t length = std::max<std::size_t>(utf8_length(text), 1);
    const std::string_view character = text.substr(0, length);
    if (character == "\n" || character == "\t") {
      out += character == "\n" ? "\\n" : "\\t";
    } else if (is_printable(character)) {
      out += character;
    } else {
      for (const char c : character) out += "\\x" + hex_byte(c);
    }
    text.remove_prefix(length);
  }
  return text.empty() ? out : out + "...";
}

namespace {

std::string printable_but(std::string_view kept, std::string_view text) {
  std::string out;
  for (;;) {
    const std::size_t at = text.find_first_of(kept);
    out += printable(text.substr(0, at), std::string_view::npos);
    if (at == std::string_view::npos) return out;
    out += text[at];
    text.remove_prefix(at + 1);
  }
}

}  // namespace

std::string printable_lines(std::string_view text) {
  return printable_but("\n", text);
}

std::string terminal_text(std::string_view text) {
  return printable_but("\n\t", text);
}

std::string shell_word(std::string_view text) {
  constexpr std::string_view kPlain =
      "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-+=./:,@%";
  if (!text.empty() && text.find_first_not_of(kPlain) == std::string_view::npos)
    return std::string(text);
  std::string out = "'";
  for (const char c : text) out += c == '\'' ? "'\\''" : std::string(1, c);
  return out + "'";
}

}  // namespace smoe
