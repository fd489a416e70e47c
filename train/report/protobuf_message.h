// Protocol buffers' wire format, in the subset that TensorBoard's messages need.
// Source: protobuf.dev/programming-guides/encoding.
#pragma once
#include <bit>
#include <cstdint>
#include <string>
#include <string_view>

namespace smoe {

/// A message under construction; fields must be added in ascending order of their numbers.
class ProtobufMessage {
 public:
  void integer(unsigned field, std::int64_t value) {
    key(field, Wire::varint);
    varint(static_cast<std::uint64_t>(value));
  }
  void real(unsigned field, double value) {
    key(field, Wire::fixed64);
    put_fixed(bytes_, std::bit_cast<std::uint64_t>(value));
  }
  void real32(unsigned field, float value) {
    key(field, Wire::fixed32);
    put_fixed(bytes_, std::bit_cast<std::uint32_t>(value));
  }
  /// A string, bytes or packed numbers.
  void bytes(unsigned field, std::string_view value) {
    key(field, Wire::bytes);
    varint(value.size());
    bytes_ += value;
  }
  void message(unsigned field, const ProtobufMessage& value) { bytes(field, value.bytes_); }

  const std::string& text() const { return bytes_; }

  /// Appends an integer in little-endian order.
  template <class T>
  static void put_fixed(std::string& out, T bits) {
    for (unsigned i = 0; i < sizeof bits; ++i) out += static_cast<char>(bits >> 8 * i & 0xFF);
  }

 private:
  enum class Wire : std::uint8_t { varint = 0, fixed64 = 1, bytes = 2, fixed32 = 5 };

  void key(unsigned field, Wire wire) { varint(field << 3 | static_cast<unsigned>(wire)); }
  void varint(std::uint64_t value) {
    for (; value >= 0x80; value >>= 7) bytes_ += static_cast<char>(value | 0x80);
    bytes_ += static_cast<char>(value);
  }

  std::string bytes_;
};

}  // namespace smoe
