#include "train/tokenizer/tokenizer.h"

#include "core/base/check.h"
#include "core/system/file.h"
#include "core/system/folder.h"
#include "core/system/lfs_pointer.h"
#include "train/tokenizer/sentencepiece_tokenizer.h"
#include "train/tokenizer/tokenizer_json.h"

namespace smoe {
namespace {

constexpr const char* kReplacement = "\xEF\xBF\xBD";  // U+FFFD

bool is_continuation(char c) {
  return (static_cast<unsigned char>(c) & 0xC0) == 0x80;
}

// Length of a character by its first byte; 0 for an invalid first byte.
std::size_t length_by_lead(char c) {
  const auto lead = static_cast<unsigned char>(c);
  if (lead < 0x80) return 1;
  if (lead >= 0xC2 && lead <= 0xDF) return 2;
  if (lead >= 0xE0 && lead <= 0xEF) return 3;
  if (lead >= 0xF0 && lead <= 0xF4) return 4;
  return 0;
}

// Whether the second byte may follow the first: no overlong forms, surrogates or code points past
// U+10FFFF (Unicode, table 3-7).
bool is_second_byte(char first, char second) {
  const auto lead = static_cast<unsigned char>(first);
  const auto next = static_cast<unsigned char>(second);
  if (lead == 0xE0) return next >= 0xA0 && next <= 0xBF;
  if (lead == 0xED) return next >= 0x80 && next <= 0x9F;
  if (lead == 0xF0) return next >= 0x90 && next <= 0xBF;
  if (lead == 0xF4) return next >= 0x80 && next <= 0x8F;
  return is_continuation(second);
}

enum class Prefix { complete, incomplete, invalid };

// What non-empty `bytes` begin with; `length` is that of a complete character.
Prefix classify(std::string_view bytes, std::size_t& length) {
  length = length_by_lead(bytes[0]);
  if (length == 0) return Prefix::invalid;
  for (std::size_t i = 1; i < length; ++i) {
    if (i == bytes.size()) return Prefix::incomplete;
    if (i == 1 ? !is_second_byte(bytes[0], bytes[1]) : !is_continuation(bytes[i]))
      return Prefix::invalid;
  }
  return Prefix::complete;
}

}  // namespace

void ByteTokenizer::encode(std::string_view text, std::vector<std::int32_t>& tokens) const {
  tokens.reserve(tokens.size() + text.size());
  for (const char c : text) tokens.push_back(static_cast<unsigned char>(c));
}

const std::string& ByteTokenizer::bytes_of(std::int32_t token) const {
  static const std::vector<std::string> kBytes = [] {
    std::vector<std::string> bytes;
    for (int i = 0; i < 256; ++i) bytes.emplace_back(1, static_cast<char>(i));
    bytes.emplace_back();  // of end_of_text
    return bytes;
  }();
  SMOE_CHECK(token >= 0 && token < vocab_size(), "tokenizer: ids must be 0 to ", vocab_size() - 1,
             "; got ", token);
  return kBytes[static_cast<std::size_t>(token)];
}

const std::string& ByteTokenizer::file_bytes() const {
  static const std::string kFile = R"({"kind": "bytes", "vocab_size": 257, "end_of_text": 256})";
  return kFile;
}

std::unique_ptr<Tokenizer> make_tokenizer(const std::string& file_bytes, const std::string& path) {
  if (is_tokenizer_json(file_bytes)) return read_tokenizer_json(file_bytes, path, "");
  return std::make_unique<SentencePieceTokenizer>(file_bytes, path);
}

std::unique_ptr<Tokenizer> load_tokenizer(const std::string& path) {
  const std::string file = read_file(path, kMaxTokenizerBytes);
  check_is_downloaded(file, path);
  if (!is_tokenizer_json(file)) return make_tokenizer(file, path);
  return read_tokenizer_json(file, path, end_token_name(parent_of(path)));
}

std::string TextDecoder::push(std::int32_t token) {
  pending_ += tokenizer_.bytes_of(token);
  return take_complete(false);
}

std::string TextDecoder::finish() {
  return take_complete(true);
}

std::string TextDecoder::take_complete(bool is_end) {
  std::string text;
  std::string_view rest = pending_;
  while (!rest.empty()) {
    std::size_t length = 0;
    const Prefix prefix = classify(rest, length);
    if (prefix == Prefix::incomplete && !is_end) break;
    if (prefix == Prefix::complete) {
      text += rest.substr(0, length);
    } else {
      text += kReplacement;
      length = 1;
    }
    rest.remove_prefix(length);
  }
  pending_ = std::string(rest);
  return text;
}

}  // namespace smoe
