#include "train/data/token_set.h"

#include <algorithm>
#include <cstring>

#include "core/base/check.h"
#include "train/data/parse_hdf5.h"

namespace smoe {
namespace {

// Limit of the metadata that is read into memory; TokenSetWriter writes 16 KiB.
constexpr std::int64_t kMaxMetadataBytes = 1 << 20;

// What is read and compared at once: small, as random windows are read, but not so small that the
// digests need much memory (1/1024 of the data).
constexpr std::int64_t kPageBytes = 16 << 10;
constexpr std::int64_t kPagesPerBlock = kTokenSetBlockBytes / kPageBytes;

std::string read_front(const File& file, std::int64_t bytes) {
  std::string front(static_cast<std::size_t>(bytes), '\0');
  front.resize(static_cast<std::size_t>(file.read_some_at(0, front.data(), bytes)));
  return front;
}

// The index-th of the tokens at `bytes`, each `width` bytes wide.
std::uint32_t load_token(const char* bytes, std::int64_t index, int width) {
  if (width == 2) {
    std::uint16_t token;
    std::memcpy(&token, bytes + 2 * index, 2);
    return token;
  }
  std::uint32_t token;
  std::memcpy(&token, bytes + 4 * index, 4);
  return token;
}

}  // namespace

TokenSet TokenSet::open(const std::string& path) {
  File file = File::open(path);
  const TokenSetHeader header = TokenSetHeader::parse(read_front(file, kTokenSetHeaderBytes), path);
  const std::int64_t size = file.size();
  SMOE_CHECK(size == header.file_bytes, path, ": ",
             size < header.file_bytes ? "truncated" : "damaged", ": it has ", size, " bytes; ",
             header.file_bytes, " were written");
  SMOE_CHECK(header.metadata_bytes > kTokenSetHeaderBytes &&
                 header.metadata_bytes <= std::min(size, kMaxMetadataBytes),
             path, ": damaged: metadata of ", header.metadata_bytes, " bytes");
  const std::string metadata = read_front(file, header.metadata_bytes);
  SMOE_CHECK(
      digest_of(std::string_view(metadata).substr(kTokenSetHeaderBytes)) == header.metadata_digest,
      path, ": damaged: its HDF5 metadata do not match their digest");
  TokenSet set(std::move(file), header);
  set.find_datasets(metadata);
  set.read_digests();
  return set;
}

void TokenSet::find_datasets(const std::string& metadata) {
  const auto found = parse_hdf5(metadata, header_.file_bytes, path());
  const auto shape_of = [&](const char* name) {
    for (const Hdf5Dataset& dataset : found)
      if (dataset.name == name && dataset.shape.size() > 0) return dataset.shape[0];
    throw UsageError(concat(path(), ": has no data set ", name));
  };
  Hdf5Dataset* const targets[] = {&tokens_[0],    &tokens_[1], &documents_[0],
                                  &documents_[1], &tokenizer_, &digests_table_};
  const auto wanted = token_set_datasets(header_, shape_of("tokenizer"), shape_of("digests"));
  for (std::size_t i = 0; i < wanted.size(); ++i) {
    const auto it = std::find_if(found.begin(), found.end(), [&](const Hdf5Dataset& dataset) {
      return dataset.name == wanted[i].name && dataset.kind == wanted[i].kind &&
             dataset.element_bytes == wanted[i].element_bytes && dataset.shape == wanted[i].shape;
    });
    SMOE_CHECK(it != found.end(), path(), ": ", wanted[i].name,
               " is missing or differs from the header in type or size");
    *targets[i] = *it;
  }
  for (const Hdf5Dataset* data :
       {&tokens_[0], &tokens_[1], &documents_[0], &documents_[1], &tokenizer_})
    SMOE_CHECK(data->offset + data->bytes <= digests_table_.offset, path(), ": ", data->name,
               " must precede the digests");
}

void TokenSet::read_digests() {
  const std::int64_t data_bytes = digests_table_.offset - header_.metadata_bytes;
  const std::int64_t num_blocks = digests_table_.shape[0];
  SMOE_CHECK(num_blocks == (data_bytes + kTokenSetBlockBytes - 1) / kTokenSetBlockBytes, path(),
             ": has ", num_blocks, " digests for ", data_bytes, " bytes of data");
  std::vector<std::uint64_t> words(static_cast<std::size_t>(2 * num_blocks));
  file_.read_at(digests_table_.offset, words.data(), digests_table_.bytes);
  SMOE_CHECK(digest_of(words.data(), digests_table_.bytes) == header_.blocks_digest, path(),
             ": damaged: its table of digests does not match its own digest");
  digests_.reserve(static_cast<std::size_t>(num_blocks));
  for (std::size_t i = 0; i < words.size(); i += 2) digests_.push_back({words[i], words[i + 1]});
  page_digests_.resize(digests_.size());
}

std::unique_ptr<Tokenizer> TokenSet::tokenizer() const {
  SMOE_CHECK(tokenizer_.bytes <= kMaxTokenizerBytes, path(), ": its tokenizer must have at most ",
             kMaxTokenizerBytes, " bytes; got ", tokenizer_.bytes);
  std::string bytes(static_cast<std::size_t>(tokenizer_.bytes), '\0');
  std::unique_lock lock(*mutex_);
  read_bytes(tokenizer_.offset, bytes.data(), tokenizer_.bytes);
  lock.unlock();
  std::unique_ptr<Tokenizer> tokenizer = make_tokenizer(bytes, path() + ": /tokenizer");
  SMOE_CHECK(tokenizer->vocab_size() == vocab_size(), path(),
             ": its vocabulary must be that of its tokenizer, ", tokenizer->vocab_size(),
             " tokens; got ", vocab_size());
  return tokenizer;
}

void TokenSet::read(Split split, std::int64_t begin, std::int64_t count,
                    std::int32_t* target) const {
  const std::int64_t size = num_tokens(split);
  SMOE_CHECK(begin >= 0 && count >= 0 && begin <= size && count <= size - begin, path(), ": ",
             name_of(split), " has ", size, " tokens; got a read of ", count, " at ", begin);
  const Hdf5Dataset& tokens = tokens_[static_cast<int>(split)];
  const int width = tokens.element_bytes;
  const std::lock_guard lock(*mutex_);
  narrow_.resize(static_cast<std::size_t>(count * width));
  read_bytes(tokens.offset + begin * width, narrow_.data(), count * width);
  std::uint32_t largest = 0;
  for (std::int64_t i = 0; i < count; ++i) {
    const std::uint32_t id = load_token(narrow_.data(), i, width);
    largest = std::max(largest, id);
    target[i] = static_cast<std::int32_t>(id);
  }
  SMOE_CHECK(largest < vocab_size(), path(), ": /", tokens.name, ": token ids must be below ",
             vocab_size(), "; got ", largest, " at token ", begin, " or later");
}

std::vector<std::int64_t> TokenSet::document_starts(Split split) const {
  const Hdf5Dataset& documents = documents_[static_cast<int>(split)];
  std::vector<std::int64_t> starts(static_cast<std::size_t>(documents.shape[0]));
  const std::lock_guard lock(*mutex_);
  read_bytes(documents.offset, starts.data(), documents.bytes);
  return starts;
}

void TokenSet::read_bytes(std::int64_t offset, void* target, std::int64_t bytes) const {
  if (bytes == 0) return;
  const std::int64_t begin = offset - header_.metadata_bytes, end = begin + bytes;
  for (std::int64_t page = begin / kPageBytes; page * kPageBytes < end; ++page) {
    const std::int64_t first = std::max(begin, page * kPageBytes);
    read_page(page, first, std::min(end, (page + 1) * kPageBytes),
              static_cast<char*>(target) + (first - begin));
  }
}

// Copies the bytes [begin, end) of the data, which are in this page.
void TokenSet::read_page(std::int64_t page, std::int64_t begin, std::int64_t end,
                         char* target) const {
  const std::int64_t block = page / kPagesPerBlock;
  const auto& digests = page_digests_[static_cast<std::size_t>(block)];
  if (digests.empty()) check_block(block);
  const std::int64_t data_bytes = digests_table_.offset - header_.metadata_bytes;
  const std::int64_t at = page * kPageBytes, size = std::min(kPageBytes, data_bytes - at);
  page_.resize(static_cast<std::size_t>(size));
  file_.read_at(header_.metadata_bytes + at, page_.data(), size);
  SMOE_CHECK(digest_of(page_) == digests[static_cast<std::size_t>(page % kPagesPerBlock)], path(),
             ": changed while it was open: bytes ", header_.metadata_bytes + at, " to ",
             header_.metadata_bytes + at + size - 1,
             " are not those that were verified; restore the file");
  std::memcpy(target, page_.data() + (begin - at), static_cast<std::size_t>(end - begin));
}

void TokenSet::check_block(std::int64_t block) const {
  const std::int64_t begin = header_.metadata_bytes + block * kTokenSetBlockBytes;
  const std::int64_t end = std::min(begin + kTokenSetBlockBytes, digests_table_.offset);
  std::string bytes(static_cast<std::size_t>(end - begin), '\0');
  file_.read_at(begin, bytes.data(), end - begin);
  SMOE_CHECK(digest_of(bytes) == digests_[static_cast<std::size_t>(block)], path(),
             ": damaged: bytes ", begin, " to ", end - 1,
             " do not match their digest; create the file again with `smoe prepare`");
  for (const Hdf5Dataset& tokens : tokens_) {
    const int width = tokens.element_bytes;
    const std::int64_t first = std::max(begin, tokens.offset);
    const std::int64_t last = std::min(end, tokens.offset + tokens.bytes);
    for (std::int64_t i = 0; i < (last - first) / width; ++i) {
      const std::uint32_t id = load_token(bytes.data() + (first - begin), i, width);
      SMOE_CHECK(id < vocab_size(), path(), ": /", tokens.name, ": token ids must be below ",
                 vocab_size(), "; got ", id, " at byte ", first + i * width);
    }
  }
  std::vector<Digest>& pages = page_digests_[static_cast<std::size_t>(block)];
  for (std::size_t at = 0; at < bytes.size(); at += kPageBytes)
    pages.push_back(digest_of(std::string_view(bytes).substr(at, kPageBytes)));
}

}  // namespace smoe
