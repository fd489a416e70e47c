#include "train/tokenizer/sentencepiece_tokenizer.h"

#include <sentencepiece_processor.h>

#include <cmath>
#include <span>

#include "core/base/check.h"
#include "core/system/text.h"

namespace smoe {
namespace {

constexpr std::string_view kBlank = "\xE2\x96\x81";  // U+2581, a space within pieces
constexpr std::size_t kMaxSegmentBytes = 1 << 16;

std::string with_blanks(std::string_view piece) {
  std::string text;
  while (!piece.empty()) {
    const bool is_blank = piece.starts_with(kBlank);
    text += is_blank ? ' ' : piece[0];
    piece.remove_prefix(is_blank ? kBlank.size() : 1);
  }
  return text;
}

// Bytes of the first character of non-empty `text`; 0 if the library would not reproduce them, so
// that they must become byte tokens.
std::size_t plain_length(std::string_view text) {
  const auto first = static_cast<unsigned char>(text[0]);
  if (first < 0x80) return first != 0;
  return text.starts_with(kBlank) ? 0 : utf8_length(text);
}

}  // namespace

SentencePieceTokenizer::SentencePieceTokenizer(const std::string& model, const std::string& path)
    : settings_(settings_of(model, path)),
      model_(canonical_model(model, path)),
      path_(path),
      processor_(std::make_unique<sentencepiece::SentencePieceProcessor>()) {
  std::string trouble;
  try {
    trouble = processor_->LoadFromSerializedProto(as_lossless_model(model, path)).ToString();
  } catch (const std::exception& error) {
    trouble = error.what();
  }
  SMOE_CHECK(trouble == "OK", path,
             ": damaged: SentencePiece cannot load it: ", printable(trouble));
  end_of_text_ = processor_->eos_id();
  SMOE_CHECK(end_of_text_ >= 0, path, ": must have an end-of-sentence token, </s>; it has none");
  const std::int32_t begin = processor_->bos_id();
  begin_of_text_ = settings_.is_own || begin < 0 ? end_of_text_ : begin;
  find_bytes();
  find_boundaries();
}

SentencePieceTokenizer::~SentencePieceTokenizer() = default;

void SentencePieceTokenizer::find_bytes() {
  const int num_pieces = processor_->GetPieceSize();
  bytes_.resize(static_cast<std::size_t>(num_pieces));
  int num_bytes = 0;
  for (int id = 0; id < num_pieces; ++id) {
    const std::string& piece = processor_->IdToPiece(id);
    SMOE_CHECK(std::isfinite(processor_->GetScore(id)), path_, ": damaged: the score of piece ", id,
               " is not finite");
    std::string& bytes = bytes_[static_cast<std::size_t>(id)];
    if (processor_->IsByte(id)) {  // "<0x0A>"
      const auto byte = static_cast<unsigned char>(std::stoi(piece.substr(3, 2), nullptr, 16));
      bytes = static_cast<char>(byte);
      byte_ids_[byte] = id;
      ++num_bytes;
    } else if (!processor_->IsControl(id) && !processor_->IsUnknown(id)) {
      bytes = with_blanks(piece);
    }
  }
  SMOE_CHECK(num_bytes == 256, path_, ": must have a token for each of 256 bytes (trained with ",
             "byte fallback); it has ", num_bytes);
}

void SentencePieceTokenizer::find_boundaries() {
  for (const std::string& bytes : bytes_) {
    for (std::size_t i = 1; i < bytes.size(); ++i) {
      if (bytes[i] == ' ' && bytes[i - 1] != ' ') cuts_before_blanks_ = false;
      if (bytes[i] != '\n' && bytes[i - 1] == '\n') cuts_after_newlines_ = false;
    }
  }
}

// Whether no piece can span `position` in `text`, so that both sides can be encoded separately with
// the same result.
bool SentencePieceTokenizer::is_boundary(std::string_view text, std::size_t position) const {
  const char before = text[position - 1];
  const char after = text[position];
  return (cuts_before_blanks_ && after == ' ' && before != ' ') ||
         (cuts_after_newlines_ && before == '\n' && after != '\n');
}

// Length of the prefix of `text` that is encoded in one call; 0 if its first byte becomes a byte
// token. Text without a boundary is cut at kMaxSegmentBytes.
std::size_t SentencePieceTokenizer::segment_length(std::string_view text) const {
  std::size_t length = 0;
  while (length < text.size() && length < kMaxSegmentBytes) {
    if (length > 0 && is_boundary(text, length)) break;
    const std::size_t character = plain_length(text.substr(length));
    if (character == 0) break;
    length += character;
  }
  return length;
}

void SentencePieceTokenizer::encode(std::string_view text,
                                    std::vector<std::int32_t>& tokens) const {
  const SegmentCaches::Lease cache(caches_);
  while (!text.empty()) {
    const std::size_t length = segment_length(text);
    if (length == 0) {
      tokens.push_back(byte_ids_[static_cast<unsigned char>(text[0])]);
      text.remove_prefix(1);
      continue;
    }
    const std::string_view segment = text.substr(0, length);
    if (!cache->append(segment, tokens)) {
      const std::size_t begin = tokens.size();
      encode_segment(segment, tokens);
      cache->store(segment, std::span(tokens).subspan(begin));
    }
    text.remove_prefix(length);
  }
}

void SentencePieceTokenizer::encode_segment(std::string_view segment,
                                            std::vector<std::int32_t>& tokens) const {
  std::vector<int> ids;
  const auto status = processor_->Encode(segment, &ids);
  SMOE_CHECK(status.ok(), path_, ": SentencePiece cannot encode: ", status.ToString());
  std::string_view rest = segment;
  for (const int id : ids) {
    const std::string& bytes = bytes_of(id);
    if (!rest.starts_with(bytes)) break;
    rest.remove_prefix(bytes.size());
  }
  SMOE_CHECK(rest.empty(), path_, ": does not reproduce the text '", printable(segment), "'");
  tokens.insert(tokens.end(), ids.begin(), ids.end());
}

std::size_t SentencePieceTokenizer::settled_prefix(std::string_view text) const {
  for (std::size_t position = text.size(); position > 1; --position)
    if (is_boundary(text, position - 1)) return position - 1;
  return 0;
}

const std::string& SentencePieceTokenizer::bytes_of(std::int32_t token) const {
  SMOE_CHECK(token >= 0 && token < vocab_size(), "tokenizer: ids must be 0 to ", vocab_size() - 1,
             "; got ", token);
  return bytes_[static_cast<std::size_t>(token)];
}

std::string SentencePieceTokenizer::piece_of(std::int32_t token) const {
  bytes_of(token);
  return processor_->IdToPiece(token);
}

SentencePieceTokenizer::Kind SentencePieceTokenizer::kind_of(std::int32_t token) const {
  bytes_of(token);
  if (processor_->IsByte(token)) return Kind::byte;
  if (processor_->IsControl(token)) return Kind::control;
  if (processor_->IsUnknown(token)) return Kind::unknown;
  return processor_->IsUnused(token) ? Kind::unused : Kind::normal;
}

float SentencePieceTokenizer::score_of(std::int32_t token) const {
  bytes_of(token);
  return processor_->GetScore(token);
}

std::int32_t SentencePieceTokenizer::unknown() const {
  return processor_->unk_id();
}

std::string SentencePieceTokenizer::summary() const {
  std::string text = concat("SentencePiece, vocabulary ", vocab_size());
  if (begin_of_text_ != end_of_text_)
    text += concat(", documents begin with ", piece_of(begin_of_text_));
  if (!document_prefix().empty())
    text += concat(begin_of_text_ != end_of_text_ ? " and" : ", documents begin with", " a blank");
  if (!settings_.normalization.empty())
    text += concat("; its normalization ", settings_.normalization, " is not applied");
  return text;
}

}  // namespace smoe
