// The documents of one file. A file of JSON lines has one document per line, in a field of a JSON
// object; any other file is one document, read in pieces.
#pragma once
#include <cstdint>
#include <string>
#include <string_view>

#include "train/data/text_file.h"
#include "train/data/text_reader.h"

namespace smoe {

struct DocumentOptions {
  std::string json_field = "text";  ///< holds the text in JSON lines; "a.b": b in the object a
  bool skips_bad_lines = false;     ///< counts JSON lines that cannot be used, instead of an error
};

/// Consecutive text of one document.
struct TextPiece {
  std::string_view text;  ///< never empty
  bool begins_document = false;
};

/// Reads a file sequentially; memory is bounded by one line.
class DocumentReader {
 public:
  /// Looks at the beginning of the file. Throws: what TextReader throws.
  DocumentReader(const TextFile& file, const DocumentOptions& options);

  /// Whether each line of the file is a document: its name ends in .jsonl or .ndjson, in any case,
  /// maybe followed by .gz or .zst; or in .json or nothing, and its first line is an object with
  /// the field.
  bool is_json_lines() const { return is_json_lines_; }
  /// The next piece, valid until the next call; false at the end. Skips documents without text and
  /// blank lines.
  /// Throws: UsageError as `path:line: rule; got ...` for a line that is longer than 64 MiB, is not
  /// a JSON object, or has no text in the field; what TextReader::next throws.
  bool next(TextPiece& piece);
  /// Bytes read from the file so far, as stored on disk.
  std::int64_t bytes_read() const { return reader_.bytes_read(); }
  /// Lines that were skipped so far, and the error of the first.
  std::int64_t num_bad_lines() const { return num_bad_lines_; }
  const std::string& first_bad_line() const { return first_bad_line_; }

 private:
  bool next_line();
  std::string use_line();

  TextReader reader_;
  std::string name_;
  DocumentOptions options_;
  bool is_json_lines_;
  bool is_begin_ = true;   // of a single-document file: nothing was returned yet
  std::string_view rest_;  // of JSON lines: read but not returned
  std::int64_t line_number_ = 0;
  std::string line_;
  std::string text_;  // the field of the current line
  std::int64_t num_bad_lines_ = 0;
  std::string first_bad_line_;
};

}  // namespace smoe
