#include "train/data/token_set_format.h"

#include <charconv>

#include "core/base/check.h"
#include "core/system/file.h"
#include "core/system/lfs_pointer.h"

namespace smoe {
namespace {

constexpr std::string_view kMagic = "smoe token set, version ";
constexpr std::string_view kVersion = "1";
constexpr std::string_view kByDocuments = "validation_by: documents\n";
constexpr std::string_view kHdf5Magic("\x89HDF\r\n\x1a\n", 8);

std::string line(std::string_view key, std::int64_t value) {
  return concat(key, ": ", value, "\n");
}

std::string line(std::string_view key, const Digest& value) {
  return concat(key, ": ", value.hex(), "\n");
}

std::string content_lines(const TokenSetHeader& header) {
  std::string text = line("vocab_size", header.vocab_size);
  for (int i = 0; i < kNumSplits; ++i) {
    const std::string split = name_of(static_cast<Split>(i));
    text += line(split + "_tokens", header.num_tokens[i]);
    text += line(split + "_documents", header.num_documents[i]);
    text += line(split + "_text_bytes", header.text_bytes[i]);
  }
  return text + line("blocks_digest", header.blocks_digest);
}

// Reads the lines of a header in order.
class LineReader {
 public:
  LineReader(std::string_view text, const std::string& path) : text_(text), path_(path) {}

  std::string_view take(std::string_view key) {
    const std::size_t end = text_.find('\n');
    const bool is_line = end != std::string_view::npos && text_.substr(0, key.size()) == key &&
                         text_.substr(key.size(), 2) == ": ";
    SMOE_CHECK(is_line, path_, ": damaged: its header has no line '", key, "'");
    const std::string_view value = text_.substr(key.size() + 2, end - key.size() - 2);
    text_.remove_prefix(end + 1);
    return value;
  }
  std::int64_t take_count(std::string_view key) {
    const std::string_view text = take(key);
    std::int64_t value = -1;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
    SMOE_CHECK(error == std::errc() && end == text.data() + text.size() && value >= 0, path_,
               ": damaged: its header has ", key, ": ", text);
    return value;
  }
  Digest take_digest(std::string_view key) { return Digest::from_hex(take(key)); }

 private:
  std::string_view text_;
  const std::string& path_;
};

void check_magic(std::string_view bytes, const std::string& path) {
  check_is_downloaded(bytes, path);
  SMOE_CHECK(bytes.substr(0, kHdf5Magic.size()) != kHdf5Magic, path,
             ": an HDF5 file, but not a token set; `smoe prepare` creates one from text");
  SMOE_CHECK(bytes.substr(0, kMagic.size()) == kMagic, path,
             ": not a token set; `smoe prepare` creates one from text");
  const std::string_view rest = bytes.substr(kMagic.size());
  const std::string_view version = rest.substr(0, rest.find('\n'));
  SMOE_CHECK(version == kVersion, path, ": a token set of version ", version.substr(0, 8),
             "; this program reads version ", kVersion);
  SMOE_CHECK(static_cast<std::int64_t>(bytes.size()) == kTokenSetHeaderBytes, path,
             ": truncated within its header, at byte ", bytes.size());
}

}  // namespace

Digest TokenSetHeader::content_digest() const {
  return digest_of(content_lines(*this));
}

std::string TokenSetHeader::to_bytes() const {
  std::string text = concat(kMagic, kVersion, "\n");
  text += line("file_bytes", file_bytes);
  text += line("metadata_bytes", metadata_bytes);
  text += line("metadata_digest", metadata_digest);
  text += content_lines(*this);
  if (split_rule == SplitRule::documents) text += kByDocuments;
  text += line("header_digest", digest_of(text));
  SMOE_INTERNAL_CHECK(static_cast<std::int64_t>(text.size()) <= kTokenSetHeaderBytes,
                      "token set: a header of ", text.size(), " bytes");
  text.resize(kTokenSetHeaderBytes, '\0');
  return text;
}

TokenSetHeader TokenSetHeader::parse(std::string_view bytes, const std::string& path) {
  check_magic(bytes, path);
  // Compared in full, padding included.
  const std::size_t end = bytes.find("header_digest: ");
  SMOE_CHECK(end != std::string_view::npos, path, ": damaged: its header has no digest");
  const std::string_view digested = bytes.substr(0, end);
  std::string written = concat(digested, line("header_digest", digest_of(digested)));
  written.resize(kTokenSetHeaderBytes, '\0');
  SMOE_CHECK(bytes == written, path, ": damaged: its header does not match its digest");

  LineReader lines(digested.substr(digested.find('\n') + 1), path);
  TokenSetHeader header;
  header.file_bytes = lines.take_count("file_bytes");
  header.metadata_bytes = lines.take_count("metadata_bytes");
  header.metadata_digest = lines.take_digest("metadata_digest");
  header.vocab_size = lines.take_count("vocab_size");
  for (int i = 0; i < kNumSplits; ++i) {
    const std::string split = name_of(static_cast<Split>(i));
    header.num_tokens[i] = lines.take_count(split + "_tokens");
    header.num_documents[i] = lines.take_count(split + "_documents");
    header.text_bytes[i] = lines.take_count(split + "_text_bytes");
  }
  header.blocks_digest = lines.take_digest("blocks_digest");
  if (digested.ends_with(kByDocuments)) header.split_rule = SplitRule::documents;
  return header;
}

bool is_token_set_file(const std::string& path) {
  char begin[kMagic.size()];
  const std::int64_t bytes = File::open(path).read_some_at(0, begin, sizeof begin);
  return std::string_view(begin, static_cast<std::size_t>(bytes)) == kMagic;
}

std::vector<Hdf5Dataset> token_set_datasets(const TokenSetHeader& header,
                                            std::int64_t tokenizer_bytes, std::int64_t num_blocks) {
  const int width = token_bytes(header.vocab_size);
  std::vector<Hdf5Dataset> datasets = {
      {.name = "train/tokens", .element_bytes = width, .shape = {header.num_tokens[0]}},
      {.name = "validation/tokens", .element_bytes = width, .shape = {header.num_tokens[1]}},
      {.name = "train/documents", .element_bytes = 8, .shape = {header.num_documents[0]}},
      {.name = "validation/documents", .element_bytes = 8, .shape = {header.num_documents[1]}},
      {.name = "tokenizer", .element_bytes = 1, .shape = {tokenizer_bytes}},
      {.name = "digests", .element_bytes = 8, .shape = {num_blocks, 2}},
  };
  return datasets;
}

int token_bytes(std::int64_t vocab_size) {
  return vocab_size <= 65536 ? 2 : 4;
}

}  // namespace smoe
