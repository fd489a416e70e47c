// CRC-32C (Castagnoli), the checksum of TFRecord files.
#pragma once
#include <cstdint>
#include <string_view>

namespace smoe {

/// Reflected polynomial 0x82F63B78, all bits inverted before and after. Source: RFC 3720, B.4.
std::uint32_t crc32c(std::string_view bytes);

}  // namespace smoe
