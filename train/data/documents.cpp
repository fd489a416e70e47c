#include "train/data/documents.h"

#include <algorithm>

#include "core/base/check.h"
#include "core/system/folder.h"
#include "train/data/json_field.h"

namespace smoe {
namespace {

constexpr std::size_t kMaxLineBytes = std::size_t{64} << 20;

bool is_blank(std::string_view line) {
  return line.find_first_not_of(" \t\r") == std::string_view::npos;
}

std::string lower_case(std::string_view text) {
  std::string result(text);
  for (char& c : result)
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
  return result;
}

bool begins_with_json_line(const TextFile& file, const std::string& json_field) {
  TextReader reader(file.path, file.name);
  std::string line, text;
  for (std::string_view piece = reader.next(); !piece.empty(); piece = reader.next()) {
    const std::size_t end = piece.find('\n');
    line += piece.substr(0, end);
    const std::size_t first = line.find_first_not_of(" \t\r");
    if (first != std::string::npos && line[first] != '{') return false;
    if (end != std::string_view::npos || line.size() > kMaxLineBytes) break;
  }
  return line.size() <= kMaxLineBytes && find_text_field(line, json_field, text).empty();
}

bool has_json_lines(const TextFile& file, const std::string& json_field) {
  const std::string name = lower_case(name_of_path(std::string(without_compression(file.name))));
  if (name.ends_with(".jsonl") || name.ends_with(".ndjson")) return true;
  const bool is_told = name.find('.') != std::string::npos && !name.ends_with(".json");
  return !is_told && begins_with_json_line(file, json_field);
}

}  // namespace

DocumentReader::DocumentReader(const TextFile& file, const DocumentOptions& options)
    : reader_(file.path, file.name),
      name_(file.name),
      options_(options),
      is_json_lines_(has_json_lines(file, options.json_field)) {}

bool DocumentReader::next(TextPiece& piece) {
  if (!is_json_lines_) {
    piece = {reader_.next(), is_begin_};
    is_begin_ = false;
    return !piece.text.empty();
  }
  while (next_line()) {
    if (is_blank(line_)) continue;
    const std::string trouble = use_line();
    if (trouble.empty()) {
      piece = {text_, true};
      if (!text_.empty()) return true;
      continue;
    }
    const std::string error = concat(name_, ":", line_number_, ": ", trouble);
    if (!options_.skips_bad_lines) throw UsageError(error);
    if (num_bad_lines_++ == 0) first_bad_line_ = error;
  }
  return false;
}

// Extracts the text of the current line; returns what is wrong with it.
std::string DocumentReader::use_line() {
  if (line_.size() > kMaxLineBytes)
    return concat("must have at most ", kMaxLineBytes, " bytes; got a longer line");
  return find_text_field(line_, options_.json_field, text_);
}

// Reads the next line into line_, without its newline, or of a line that is too long the beginning;
// returns false at the end of the file.
bool DocumentReader::next_line() {
  line_.clear();
  ++line_number_;
  for (;;) {
    if (rest_.empty()) rest_ = reader_.next();
    if (rest_.empty()) return !line_.empty();
    const std::size_t end = rest_.find('\n');
    const std::size_t space = kMaxLineBytes + 1 - std::min(line_.size(), kMaxLineBytes + 1);
    line_ += rest_.substr(0, std::min(end, space));
    rest_.remove_prefix(end == std::string_view::npos ? rest_.size() : end + 1);
    if (end != std::string_view::npos) return true;
  }
}

}  // namespace smoe
