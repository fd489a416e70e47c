// The documents of one file. A file of JSON lines has one document per line, in a field of a JSON
// object; any other file is one document, read in pieces.
#pragma once
#include <cstdint>
#include <string>
#include <string_view>

#include "train/data/text_file.h"

namespace smoe {

/// Consecutive text of one document.
struct TextPiece {
  std::string_view text;  ///< never empty
  bool begins_document = false;
};

/// Whether each line of the file is a document: its name ends in .jsonl or .ndjson, in any case,
/// maybe followed by .gz; or in .json, and its first line is an object with the field.
/// Throws: what TextReader throws.
bool is_json_lines(const std::string& path, const std::string& json_field);

/// Reads a file sequentially; memory is bounded by one line.
class DocumentReader {
 public:
  /// `json_field`: the field that holds the text in JSON lines. Throws: SystemError.
  DocumentReader(const std::string& path, const std::string& json_field);

  /// The next piece, valid until the next call; false at the end. Skips documents without text and
  /// blank lines.
  /// Throws: UsageError as `path:line: rule; got ...` for a line that is longer than 64 MiB, is not
  /// a JSON object, or has no text in the field; what TextReader::next throws.
  bool next(TextPiece& piece);
  /// Bytes read from the file so far, as stored on disk.
  std::int64_t bytes_read() const { return reader_.bytes_read(); }

 private:
  bool next_line();

  TextReader reader_;
  std::string path_;
  std::string json_field_;
  bool is_json_lines_;
  bool is_begin_ = true;   // of a single-document file: nothing was returned yet
  std::string_view rest_;  // of JSON lines: read but not returned
  std::int64_t line_number_ = 0;
  std::string line_;
  std::string text_;  // the field of the current line
};

}  // namespace smoe
