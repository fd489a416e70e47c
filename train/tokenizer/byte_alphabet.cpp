#include "train/tokenizer/byte_alphabet.h"

#include <unordered_map>

#include "core/system/text.h"

namespace smoe {
namespace {

// UTF-8 of a code point below U+0800.
std::string utf8(int code_point) {
  if (code_point < 0x80) return {static_cast<char>(code_point)};
  return {static_cast<char>(0xC0 | code_point >> 6), static_cast<char>(0x80 | (code_point & 0x3F))};
}

}  // namespace

const std::array<std::string, 256>& byte_characters() {
  static const auto kCharacters = [] {
    std::array<std::string, 256> characters;
    int next = 0x100;
    for (int byte = 0; byte < 256; ++byte) {
      const bool is_printable = (byte >= 0x21 && byte <= 0x7E) || (byte >= 0xA1 && byte != 0xAD);
      characters[static_cast<std::size_t>(byte)] = utf8(is_printable ? byte : next++);
    }
    return characters;
  }();
  return kCharacters;
}

std::optional<std::string> bytes_of_piece(std::string_view piece) {
  static const auto kBytes = [] {
    std::unordered_map<std::string_view, char> bytes;
    for (std::size_t byte = 0; byte < 256; ++byte)
      bytes.emplace(byte_characters()[byte], static_cast<char>(byte));
    return bytes;
  }();
  std::string bytes;
  while (!piece.empty()) {
    const auto found = kBytes.find(piece.substr(0, utf8_length(piece)));
    if (found == kBytes.end()) return {};
    bytes += found->second;
    piece.remove_prefix(found->first.size());
  }
  return bytes;
}

}  // namespace smoe
