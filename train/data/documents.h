// The documents of one file. A file whose name ends in ".jsonl" (or ".jsonl.gz") has one on each
// line, in a field of a JSON object; any other file is one document, read in pieces.
#pragma once
#include <cstdint>
#include <string>
#include <string_view>

#include "train/data/text_file.h"

namespace smoe {

/// A stretch of text within one document.
struct TextPiece {
  std::string_view text;  ///< never empty
  bool begins_document = false;
};

/// Whether each line of the file is a document.
bool is_json_lines(const std::string& path);

/// Reads a file from its beginning to its end, in memory that one line of it bounds.
class DocumentReader {
 public:
  /// `json_field` is the field that holds the text in JSON lines. Throws: SystemError.
  DocumentReader(const std::string& path, const std::string& json_field);

  /// The next piece, valid until the next call; false at the end. Documents without text and blank
  /// lines are passed over.
  /// Throws: UsageError as `path:line: rule; got ...` for a line that is longer than 64 MiB, no
  /// JSON object, or without text in the field; what TextReader::next throws.
  bool next(TextPiece& piece);
  /// Bytes of the file, as it lies on disk, that were read so far.
  std::int64_t bytes_read() const { return reader_.bytes_read(); }

 private:
  bool next_line();

  TextReader reader_;
  std::string path_;
  std::string json_field_;
  bool is_json_lines_;
  bool is_begin_ = true;   // of a file that is one document
  std::string_view rest_;  // read and not given out, of JSON lines
  std::int64_t line_number_ = 0;
  std::string line_;
  std::string text_;  // of the line's field
};

}  // namespace smoe
