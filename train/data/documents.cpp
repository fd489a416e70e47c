#include "train/data/documents.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <vector>

#include "core/base/check.h"
#include "core/system/text.h"

namespace smoe {
namespace {

using Json = nlohmann::json;

constexpr std::size_t kMaxLineBytes = std::size_t{64} << 20;

// Extracts one text field of an object; nested values are skipped without being stored.
class FieldFinder : public nlohmann::json_sax<Json> {
 public:
  FieldFinder(const std::string& field, std::string& text) : field_(field), text_(text) {}

  // What is wrong with the line; empty if it is valid.
  std::string trouble() const {
    if (!trouble_.empty()) return trouble_;
    if (num_found_ == 1) return "";
    return num_found_ == 0 ? concat("must have the field \"", printable(field_), "\"; it has ",
                                    keys_.empty() ? "none" : keys_)
                           : concat("must have the field \"", printable(field_), "\" once; it has ",
                                    num_found_);
  }

  // Where a number is that no double can hold, which ended the parse; size 0: none.
  std::pair<std::size_t, std::size_t> large_number() const { return large_number_; }

  bool null() override { return take("null"); }
  bool boolean(bool) override { return take("true or false"); }
  bool number_integer(number_integer_t) override { return take("a number"); }
  bool number_unsigned(number_unsigned_t) override { return take("a number"); }
  bool number_float(number_float_t, const string_t&) override { return take("a number"); }
  bool binary(binary_t&) override { return take("bytes"); }
  bool start_array(std::size_t) override { return take("a list") && ++depth_ > 0; }
  bool end_array() override { return --depth_ >= 0; }
  bool end_object() override { return --depth_ >= 0; }

  bool start_object(std::size_t) override {
    if (depth_ > 0 && !take("an object")) return false;
    ++depth_;
    return true;
  }

  bool string(string_t& value) override {
    if (!is_wanted_) return take("text");
    is_wanted_ = false;
    text_ = std::move(value);
    return true;
  }

  bool key(string_t& name) override {
    if (depth_ != 1) return true;
    is_wanted_ = name == field_;
    num_found_ += is_wanted_;
    constexpr std::size_t kMaxShown = 80;
    if (keys_.size() < kMaxShown) keys_ += (keys_.empty() ? "" : ", ") + printable(name);
    return true;
  }

  bool parse_error(std::size_t position, const std::string& token,
                   const nlohmann::detail::exception& error) override {
    constexpr int kNumberOverflow = 406;
    if (error.id == kNumberOverflow) large_number_ = {position - token.size(), token.size()};
    const std::size_t begin = token.size() - std::min<std::size_t>(token.size(), 20);
    trouble_ = concat("must be JSON; invalid at byte ", position, ", the end of '",
                      printable(token.substr(begin)), "'");
    return false;
  }

 private:
  // Handles a value that is not text. Returns whether it is allowed at its place.
  bool take(const char* what) {
    if (depth_ == 0) trouble_ = concat("must be a JSON object; got ", what);
    if (is_wanted_) trouble_ = concat("\"", printable(field_), "\" must be text; got ", what);
    return trouble_.empty();
  }

  const std::string& field_;
  std::string& text_;
  std::string trouble_;
  std::string keys_;  // first keys of the object
  std::pair<std::size_t, std::size_t> large_number_;
  int depth_ = 0;
  int num_found_ = 0;
  bool is_wanted_ = false;  // whether the next value is the field's
};

// Extracts the field from a line; returns what is wrong with it, empty if it is valid. Numbers in
// other fields may be larger than a double: they are replaced in `line`.
std::string find_field(std::string& line, const std::string& field, std::string& text) {
  constexpr int kMaxLargeNumbers = 1000;
  for (int i = 0;; ++i) {
    FieldFinder finder(field, text);
    Json::sax_parse(line, &finder);
    const auto [begin, size] = finder.large_number();
    if (size == 0 || begin + size > line.size() || i == kMaxLargeNumbers) return finder.trouble();
    line.replace(begin, size, "0" + std::string(size - 1, ' '));
  }
}

bool is_blank(std::string_view line) {
  return line.find_first_not_of(" \t\r") == std::string_view::npos;
}

}  // namespace

bool is_json_lines(const std::string& path, const std::string& json_field) {
  const std::string name = text_name(path);
  if (name.ends_with(".jsonl") || name.ends_with(".ndjson")) return true;
  if (!name.ends_with(".json")) return false;
  TextReader reader(path);
  std::string line, text;
  for (std::string_view piece = reader.next(); !piece.empty(); piece = reader.next()) {
    const std::size_t end = piece.find('\n');
    line += piece.substr(0, end);
    if (end != std::string_view::npos || line.size() > kMaxLineBytes) break;
  }
  return line.size() <= kMaxLineBytes && find_field(line, json_field, text).empty();
}

DocumentReader::DocumentReader(const std::string& path, const std::string& json_field)
    : reader_(path),
      path_(path),
      json_field_(json_field),
      is_json_lines_(is_json_lines(path, json_field)) {}

bool DocumentReader::next(TextPiece& piece) {
  if (!is_json_lines_) {
    piece = {reader_.next(), is_begin_};
    is_begin_ = false;
    return !piece.text.empty();
  }
  while (next_line()) {
    if (is_blank(line_)) continue;
    const std::string trouble = find_field(line_, json_field_, text_);
    SMOE_CHECK(trouble.empty(), path_, ":", line_number_, ": ", trouble);
    piece = {text_, true};
    if (!text_.empty()) return true;
  }
  return false;
}

// Reads the next line into line_, without its newline; returns false at the end of the file.
bool DocumentReader::next_line() {
  line_.clear();
  ++line_number_;
  for (;;) {
    if (rest_.empty()) rest_ = reader_.next();
    if (rest_.empty()) return !line_.empty();
    const std::size_t end = rest_.find('\n');
    line_ += rest_.substr(0, end);
    SMOE_CHECK(line_.size() <= kMaxLineBytes, path_, ":", line_number_, ": must have at most ",
               kMaxLineBytes, " bytes; got a longer line");
    rest_.remove_prefix(end == std::string_view::npos ? rest_.size() : end + 1);
    if (end != std::string_view::npos) return true;
  }
}

}  // namespace smoe
