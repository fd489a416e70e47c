#include "train/data/json_field.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <utility>
#include <vector>

#include "core/base/check.h"
#include "core/system/text.h"

namespace smoe {
namespace {

using Json = nlohmann::json;

// Extracts one text field of an object; nested values are skipped without being stored.
class FieldFinder : public nlohmann::json_sax<Json> {
 public:
  FieldFinder(const std::string& field, std::string& text) : field_(field), text_(text) {
    for (std::size_t begin = 0; begin <= field.size();) {
      const std::size_t end = std::min(field.find('.', begin), field.size());
      path_.push_back(field.substr(begin, end - begin));
      begin = end + 1;
    }
  }

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

  bool start_object(std::size_t) override {
    const bool is_entered = std::exchange(is_entering_, false);
    if (depth_ > 0 && !take("an object")) return false;
    ++depth_;
    if (is_entered) ++level_;
    return true;
  }

  bool end_object() override {
    --depth_;
    level_ = std::min(level_, std::max(depth_ - 1, 0));
    return true;
  }

  bool string(string_t& value) override {
    if (!is_wanted_) return take("text");
    is_wanted_ = false;
    text_ = std::move(value);
    return true;
  }

  bool key(string_t& name) override {
    is_entering_ = false;
    constexpr std::size_t kMaxShown = 80;
    if (depth_ == 1 && keys_.size() < kMaxShown)
      keys_ += (keys_.empty() ? "" : ", ") + printable(name);
    const bool is_step = depth_ == level_ + 1 && name == path_[static_cast<std::size_t>(level_)];
    const bool is_last = level_ + 1 == static_cast<int>(path_.size());
    is_entering_ = is_step && !is_last;
    is_wanted_ = (is_step && is_last) || (depth_ == 1 && name == field_);
    num_found_ += is_wanted_;
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
    is_entering_ = false;
    if (depth_ == 0) trouble_ = concat("must be a JSON object; got ", what);
    if (is_wanted_) trouble_ = concat("\"", printable(field_), "\" must be text; got ", what);
    return trouble_.empty();
  }

  const std::string& field_;
  std::string& text_;
  std::string trouble_;
  std::string keys_;  // first keys of the object
  std::pair<std::size_t, std::size_t> large_number_;
  std::vector<std::string> path_;
  int depth_ = 0;
  int level_ = 0;  // of the enclosing objects, those on the path
  int num_found_ = 0;
  bool is_wanted_ = false;    // whether the next value is the field's
  bool is_entering_ = false;  // whether the next value is an object on the path
};

}  // namespace

std::string find_text_field(std::string& line, const std::string& field, std::string& text) {
  constexpr int kMaxLargeNumbers = 1000;
  for (int i = 0;; ++i) {
    FieldFinder finder(field, text);
    Json::sax_parse(line, &finder);
    const auto [begin, size] = finder.large_number();
    if (size == 0 || begin + size > line.size() || i == kMaxLargeNumbers) return finder.trouble();
    line.replace(begin, size, "0" + std::string(size - 1, ' '));
  }
}

}  // namespace smoe
