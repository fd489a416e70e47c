// How a token set lies on disk. It is an HDF5 file with the data sets below, each in one piece, and
// a user block of 512 bytes in front: the header, text that `head -c 512` shows. The header holds
// the digest of the HDF5 metadata, so that libhdf5 only ever parses the bytes that were written;
// the digest of the table of digests, which covers all data in blocks of 1 MiB; and its own. No bit
// of the file is outside of some digest. The same text gives the same file, byte for byte.
//   train/tokens, validation/tokens         u16 [n], or u32 for a vocabulary past 65536
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

inline constexpr std::int64_t kTokenSetHeaderBytes = 512;
inline constexpr std::int64_t kTokenSetBlockBytes = 1 << 20;

struct TokenSetHeader {
  std::int64_t file_bytes = 0;
  std::int64_t metadata_bytes = 0;  ///< the header, then HDF5's; where the data begin
  Digest metadata_digest;           ///< of the metadata behind the header
  std::int64_t vocab_size = 0;
  std::int64_t num_tokens[kNumSplits] = {};
  std::int64_t num_documents[kNumSplits] = {};
  std::int64_t text_bytes[kNumSplits] = {};
  Digest blocks_digest;  ///< of the data set `digests`

  /// The digest of what the set holds: tokens, documents, tokenizer, split.
  Digest content_digest() const;
  /// The user block, kTokenSetHeaderBytes bytes.
  std::string to_bytes() const;
  /// Throws: UsageError when `bytes` is not a whole header of this version.
  static TokenSetHeader parse(std::string_view bytes, const std::string& path);
};

/// The data sets of a token set in their order on disk, all but their offsets.
std::vector<Hdf5Dataset> token_set_datasets(const TokenSetHeader& header,
                                            std::int64_t tokenizer_bytes, std::int64_t num_blocks);

/// 2 or 4.
int token_bytes(std::int64_t vocab_size);

}  // namespace smoe
