// Text files as `smoe prepare` takes them: found in folders, plain or gzip, read in pieces.
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
  bool is_named = false;   ///< given by the user, not found in a folder
  std::int64_t bytes = 0;  ///< on disk
};

/// The files that `inputs` name, in their order: a file itself, a folder's files and those of its
/// folders in order of their names' bytes. In folders, hidden entries (".git") and links to folders
/// are passed over. Throws: UsageError for an input that does not exist, a file met twice, or when
/// there is no file at all; SystemError.
std::vector<TextFile> list_text_files(const std::vector<std::string>& inputs);

/// Reads one file from its beginning to its end; one whose name ends in ".gz" is inflated.
class TextReader {
 public:
  /// Throws: SystemError.
  explicit TextReader(const std::string& path);
  ~TextReader();
  TextReader(const TextReader&) = delete;
  TextReader& operator=(const TextReader&) = delete;

  /// The next bytes, at most 1 MiB, valid until the next call; none at the end.
  /// Throws: UsageError for damaged or truncated gzip data; SystemError.
  std::string_view next();
  /// Bytes of the file, as it lies on disk, that were read so far.
  std::int64_t bytes_read() const { return bytes_read_; }

 private:
  struct Inflater;
  std::string_view read_piece();

  File file_;
  std::int64_t bytes_read_ = 0;
  std::string piece_;
  std::unique_ptr<Inflater> inflater_;  // of gzip files
};

/// Whether the beginning of a file shows that it is no text: it has zero bytes.
bool is_binary(std::string_view beginning);

}  // namespace smoe
