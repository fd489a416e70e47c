#include "train/report/crc32c.h"

#include <array>

namespace smoe {
namespace {

// The remainder of each byte.
constexpr std::array<std::uint32_t, 256> make_table() {
  std::array<std::uint32_t, 256> table{};
  for (std::uint32_t byte = 0; byte < 256; ++byte) {
    std::uint32_t rest = byte;
    for (int bit = 0; bit < 8; ++bit) rest = rest >> 1 ^ (rest & 1 ? 0x82F63B78u : 0);
    table[byte] = rest;
  }
  return table;
}

constexpr auto kTable = make_table();

}  // namespace

std::uint32_t crc32c(std::string_view bytes) {
  std::uint32_t rest = ~0u;
  for (const char c : bytes)
    rest = rest >> 8 ^ kTable[(rest ^ static_cast<std::uint8_t>(c)) & 0xFF];
  return ~rest;
}

}  // namespace smoe
