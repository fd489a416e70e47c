// Reads one text file in pieces, decompressing it where it is compressed.
#pragma once
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include "core/system/file.h"
#include "train/data/decompressor.h"

namespace smoe {

/// Reads one file sequentially; decompresses gzip and zstd, known by ".gz", ".zst" or their first
/// bytes.
class TextReader {
 public:
  /// `name` stands for the file in messages and says what it holds. Throws: SystemError.
  TextReader(const std::string& path, const std::string& name);

  /// The next bytes, at most 1 MiB, valid until the next call; empty at the end. All pieces but the
  /// last have the same size.
  /// Throws: UsageError for damaged or truncated data; SystemError.
  std::string_view next();
  /// Bytes read from the file so far, as stored on disk.
  std::int64_t bytes_read() const { return bytes_read_; }

 private:
  void read_piece();

  File file_;
  std::int64_t bytes_read_ = 0;
  std::string piece_;                           // as stored
  std::string_view rest_;                       // of piece_, not returned or decompressed
  std::unique_ptr<Decompressor> decompressor_;  // nullptr: the file is not compressed
  std::string output_;                          // decompressed
};

/// Whether a file is binary, judged by its beginning: it contains zero bytes.
bool is_binary(std::string_view beginning);

}  // namespace smoe
