// Text files as `smoe prepare` reads them: found in folders, plain or gzip, read in pieces.
#pragma once
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "core/system/file.h"

namespace smoe {

struct TextFile {
  std::string path;
  std::string real_path;   ///< with links followed, so that a file by two paths is one
  bool is_named = false;   ///< given by path, not found in a folder
  std::int64_t bytes = 0;  ///< on disk
};

/// The files of `inputs`, in order; folders are listed recursively, entries ordered by the bytes of
/// their names. Inside folders links are followed, hidden entries (".git") are skipped, and so is
/// what was listed before, by any path.
/// Throws: UsageError for an input that does not exist, a file that is given twice, or when there
/// is no file at all; SystemError.
std::vector<TextFile> list_text_files(const std::vector<std::string>& inputs);

/// `path` in lower case, without a final ".gz": what its name says about its contents.
std::string text_name(const std::string& path);

/// Reads one file sequentially; a file whose name ends in ".gz" is decompressed: one member or
/// several, with zeros behind the last.
class TextReader {
 public:
  /// Throws: SystemError.
  explicit TextReader(const std::string& path);
  ~TextReader();
  TextReader(const TextReader&) = delete;
  TextReader& operator=(const TextReader&) = delete;

  /// The next bytes, at most 1 MiB, valid until the next call; empty at the end.
  /// Throws: UsageError for damaged or truncated gzip data; SystemError.
  std::string_view next();
  /// Bytes read from the file so far, as stored on disk.
  std::int64_t bytes_read() const { return bytes_read_; }

 private:
  struct Inflater;
  std::string_view read_piece();

  File file_;
  std::int64_t bytes_read_ = 0;
  std::string piece_;
  std::unique_ptr<Inflater> inflater_;  // for gzip files
};

/// Whether a file is binary, judged by its beginning: it contains zero bytes.
bool is_binary(std::string_view beginning);

}  // namespace smoe
