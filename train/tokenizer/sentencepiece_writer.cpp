#include "train/tokenizer/sentencepiece_writer.h"

#include <cstdint>
#include <cstring>

namespace smoe {
namespace {

std::string varint(std::uint64_t value) {
  std::string bytes;
  for (; value >= 0x80; value >>= 7) bytes += static_cast<char>(0x80 | (value & 0x7f));
  return bytes + static_cast<char>(value);
}

// Fields of a protocol buffer message.
std::string field(std::uint64_t number, std::uint64_t value) {
  return varint(number << 3) + varint(value);
}
std::string field(std::uint64_t number, std::string_view content) {
  return varint(number << 3 | 2) + varint(content.size()) + std::string(content);
}
std::string field(std::uint64_t number, float value) {
  std::string bytes(sizeof value, '\0');
  std::memcpy(bytes.data(), &value, sizeof value);
  return varint(number << 3 | 5) + bytes;
}

}  // namespace

void SentencePieceWriter::add(std::string_view piece, float score, Type type) {
  pieces_ +=
      field(1, field(1, piece) + field(2, score) + field(3, static_cast<std::uint64_t>(type)));
}

std::string SentencePieceWriter::finish(std::string_view begin, std::string_view end,
                                        bool has_prefix) {
  // The numbers of TrainerSpec and NormalizerSpec. The library finds the ids by the names.
  std::string trainer = field(3, std::uint64_t{2}) + field(35, std::uint64_t{1});
  trainer += begin.empty() ? field(41, ~std::uint64_t{0}) : field(46, begin);
  trainer += field(47, end);
  const std::string normalizer = field(1, "as-is") + field(3, std::uint64_t{has_prefix}) +
                                 field(4, std::uint64_t{0}) + field(5, std::uint64_t{1});
  return pieces_ + field(2, trainer) + field(3, normalizer);
}

}  // namespace smoe
