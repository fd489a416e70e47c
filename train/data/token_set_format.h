// The on-disk format of a token set: an HDF5 file with the contiguous data sets below and a user
// block of 512 bytes, the header, which is text that `head -c 512` prints. The header holds the
// digest of the HDF5 metadata, so libhdf5 parses only bytes that were written as such; the digest
// of the table of digests, which covers all data in blocks of 1 MiB; and its own digest. Every bit
// of the file is covered by a digest. The same text gives a bit-identical file.
//   train/tokens, validation/tokens         u16 [n], or u32 for vocabularies above 65536
//   train/documents, validation/documents   u64 [n], position of each document's first token
//   tokenizer                               u8 [n], the tokenizer's file
//   digests                                 u64 [blocks, 2], high and low words, last in the file
#pragma once
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "core/system/digest.h"
#include "train/data/hdf5.h"

namespace smoe {

enum class Split : std::uint8_t { train, validation };
inline constexpr int kNumSplits = 2;
constexpr const char* name_of(Split split) {
  return split == Split::train ? "train" : "validation";
}

/// Which text is the validation split.
enum class SplitRule : std::uint8_t {
  tail,       ///< the end of the text, or text of its own
  documents,  ///< documents chosen by a hash
};

inline constexpr std::int64_t kTokenSetHeaderBytes = 512;
inline constexpr std::int64_t kTokenSetBlockBytes = 1 << 20;

struct TokenSetHeader {
  std::int64_t file_bytes = 0;
  std::int64_t metadata_bytes = 0;  ///< header and HDF5 metadata; the offset of the data
  Digest metadata_digest;           ///< of the metadata after the header
  std::int64_t vocab_size = 0;
  std::int64_t num_tokens[kNumSplits] = {};
  std::int64_t num_documents[kNumSplits] = {};
  std::int64_t text_bytes[kNumSplits] = {};
  Digest blocks_digest;  ///< of the data set `digests`
  SplitRule split_rule = SplitRule::tail;

  /// Digest of the contents: tokens, documents, tokenizer, split.
  Digest content_digest() const;
  /// The user block, kTokenSetHeaderBytes bytes.
  std::string to_bytes() const;
  /// Throws: UsageError when `bytes` is not a complete header of this version.
  static TokenSetHeader parse(std::string_view bytes, const std::string& path);
};

/// Whether the file `path` begins as a token set does. Throws: SystemError.
bool is_token_set_file(const std::string& path);

/// The data sets of a token set in file order, without their offsets.
std::vector<Hdf5Dataset> token_set_datasets(const TokenSetHeader& header,
                                            std::int64_t tokenizer_bytes, std::int64_t num_blocks);

/// Bytes per stored token: 2 or 4.
int token_bytes(std::int64_t vocab_size);

}  // namespace smoe
