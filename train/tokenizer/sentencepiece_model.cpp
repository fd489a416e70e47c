#include "train/tokenizer/sentencepiece_model.h"

#include <cstdint>
#include <utility>

#include "core/base/check.h"
#include "core/system/text.h"

namespace smoe {
namespace {

// The library builds a trie of the pieces recursively over their bytes.
constexpr std::size_t kMaxPieceBytes = 1024;
constexpr std::int64_t kMaxPieces = 1 << 22;

// Field numbers of sentencepiece_model.proto.
enum ModelField : std::uint64_t { kPieces = 1, kTrainer = 2, kNormalizer = 3 };
constexpr std::uint64_t kPieceText = 1;
constexpr std::uint64_t kModelType = 3;  // of the trainer settings
constexpr std::uint64_t kBpe = 2;
enum NormalizerField : std::uint64_t { kName = 1, kAddsPrefix = 3, kRemovesBlanks = 4 };

// normalizer_spec { name: "identity"  add_dummy_prefix: false  remove_extra_whitespaces: false
// escape_whitespaces: true } as field 3 of the model.
constexpr std::string_view kIdentity("\x1a\x10\x0a\x08identity\x18\x00\x20\x00\x28\x01", 18);

// The same for models whose begin token and dummy prefix are kept; the last string is a varint.
constexpr std::string_view kKeptName = "as-is";

std::string kept_normalizer(bool adds_prefix) {
  return concat("\x1a\x0d\x0a\x05", kKeptName, '\x18', adds_prefix ? '\x01' : '\0',
                std::string_view("\x20\x00\x28\x01", 4));
}

// Reads the fields of a protocol buffer message in order.
class FieldReader {
 public:
  FieldReader(std::string_view message, const std::string& path) : rest_(message), path_(path) {}

  // Reads the next field: all its bytes into `field`, the contents of a string or message into
  // `content`. Returns its number, 0 at the end.
  std::uint64_t next(std::string_view& field, std::string_view& content) {
    if (rest_.empty()) return 0;
    const std::string_view begin = rest_;
    const std::uint64_t tag = take_varint();
    content = {};
    switch (tag & 7) {
      case 0:
        value_ = take_varint();
        break;
      case 1:
        take(8);
        break;
      case 2:
        content = take(take_varint());
        break;
      case 5:
        take(4);
        break;
      default:
        fail();
    }
    field = begin.substr(0, begin.size() - rest_.size());
    if (tag >> 3 == 0) fail();
    return tag >> 3;
  }
  // The value of the last field that was an integer.
  std::uint64_t integer() const { return value_; }

 private:
  [[noreturn]] void fail() const {
    throw UsageError(concat(path_, ": no tokenizer: neither a SentencePiece model nor ",
                            "a file that `smoe prepare` writes, or damaged"));
  }

  std::string_view take(std::uint64_t bytes) {
    if (bytes > rest_.size()) fail();
    const std::string_view taken = rest_.substr(0, bytes);
    rest_.remove_prefix(bytes);
    return taken;
  }

  std::uint64_t take_varint() {
    std::uint64_t value = 0;
    for (int shift = 0; shift < 64; shift += 7) {
      const auto byte = static_cast<unsigned char>(take(1)[0]);
      value |= std::uint64_t{byte & 0x7fu} << shift;
      if (byte < 0x80) return value;
    }
    fail();
  }

  std::string_view rest_;
  std::uint64_t value_ = 0;
  const std::string& path_;
};

void check_piece(std::string_view piece, std::int64_t id, const std::string& path) {
  std::string_view field, content;
  FieldReader fields(piece, path);
  while (const std::uint64_t number = fields.next(field, content)) {
    if (number != kPieceText) continue;
    SMOE_CHECK(content.size() <= kMaxPieceBytes && content.find('\0') == std::string_view::npos,
               path, ": damaged: piece ", id, " must be text of at most ", kMaxPieceBytes,
               " bytes; got ", content.size(), ": ", printable(content.substr(0, 40)));
  }
}

void read_normalizer(std::string_view message, const std::string& path,
                     SentencePieceSettings& settings, bool& removes_blanks) {
  std::string_view field, content;
  FieldReader fields(message, path);
  while (const std::uint64_t number = fields.next(field, content)) {
    if (number == kName) settings.normalization = std::string(content);
    if (number == kAddsPrefix) settings.adds_prefix = fields.integer() != 0;
    if (number == kRemovesBlanks) removes_blanks = fields.integer() != 0;
  }
}

// The pieces and trainer settings of a model.
std::string without_normalizer(std::string_view model, const std::string& path) {
  std::string lossless;
  std::int64_t num_pieces = 0;
  std::string_view field, content;
  FieldReader fields(model, path);
  while (const std::uint64_t number = fields.next(field, content)) {
    if (number == kPieces) {
      SMOE_CHECK(num_pieces < kMaxPieces, path, ": damaged: more than ", kMaxPieces, " pieces");
      check_piece(content, num_pieces++, path);
    }
    if (number == kPieces || number == kTrainer) lossless += field;
  }
  SMOE_CHECK(num_pieces > 0, path, ": no tokenizer: it has no pieces");
  return lossless;
}

}  // namespace

SentencePieceSettings settings_of(std::string_view model, const std::string& path) {
  SentencePieceSettings settings;
  bool removes_blanks = true;
  std::string_view field, content;
  FieldReader fields(model, path);
  while (const std::uint64_t number = fields.next(field, content)) {
    if (number == kNormalizer) read_normalizer(content, path, settings, removes_blanks);
    if (number != kTrainer) continue;
    FieldReader trainer(content, path);
    while (const std::uint64_t key = trainer.next(field, content))
      if (key == kModelType) settings.is_bpe = trainer.integer() == kBpe;
  }
  const std::string name = printable(std::exchange(settings.normalization, ""));
  settings.is_own = name == "identity" && !settings.adds_prefix && !removes_blanks;
  const bool is_kept = name == "identity" || name == kKeptName;
  if (!is_kept || removes_blanks) settings.normalization = name.empty() ? "default" : name;
  return settings;
}

std::string canonical_model(std::string_view model, const std::string& path) {
  const SentencePieceSettings settings = settings_of(model, path);
  if (settings.is_own) return as_lossless_model(model, path);
  return without_normalizer(model, path) + kept_normalizer(settings.adds_prefix);
}

std::string as_lossless_model(std::string_view model, const std::string& path) {
  return without_normalizer(model, path).append(kIdentity);
}

}  // namespace smoe
