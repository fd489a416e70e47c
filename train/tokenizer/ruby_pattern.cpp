#include "train/tokenizer/ruby_pattern.h"

#include <algorithm>

#include "core/base/check.h"
#include "core/system/text.h"

namespace smoe {
namespace {

// White space by the Unicode property; PCRE2's own \s has U+180E too.
constexpr std::string_view kSpaces =
    "\\x{9}-\\x{d}\\x{20}\\x{85}\\x{a0}\\x{1680}\\x{2000}-\\x{200a}\\x{2028}\\x{2029}\\x{202f}"
    "\\x{205f}\\x{3000}";

bool is_alphanumeric(char c) {
  return (c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z');
}

// Translates a pattern from left to right.
class Translation {
 public:
  Translation(std::string_view pattern, const std::string& place)
      : pattern_(pattern), rest_(pattern), place_(place) {}

  std::string run() {
    while (!rest_.empty()) {
      if (rest_[0] == '\\') {
        take_escape();
      } else if (is_in_class_) {
        take_in_class();
      } else {
        take_outside();
      }
    }
    return result_;
  }

 private:
  [[noreturn]] void fail(std::string_view what) const {
    throw UsageError(concat(place_, ": the split pattern must not have ", what,
                            "; got the pattern ", printable(pattern_, 200)));
  }

  // 0: to the end.
  void copy(std::size_t bytes) {
    if (bytes == 0) bytes = rest_.size();
    result_ += rest_.substr(0, bytes);
    rest_.remove_prefix(std::min(bytes, rest_.size()));
  }

  void take_escape() {
    const char c = rest_.size() > 1 ? rest_[1] : '\0';
    if (c == 's' || c == 'S') {
      if (is_in_class_ && c == 'S') fail("\\S in a class");
      if (!is_in_class_) result_ += c == 's' ? "[" : "[^";
      result_ += kSpaces;
      if (!is_in_class_) result_ += "]";
      rest_.remove_prefix(2);
      return;
    }
    if (rest_.starts_with("\\p{") || rest_.starts_with("\\P{") || rest_.starts_with("\\x{"))
      return copy(rest_.find('}') + 1);
    const bool is_same = std::string_view("dDrntf").find(c) != std::string_view::npos;
    if (!is_same && (is_alphanumeric(c) || c == '\0')) fail(concat("\\", printable({&c, 1})));
    copy(2);
  }

  void take_in_class() {
    if (rest_.starts_with("[")) fail("a class within a class");
    if (rest_.starts_with("&&")) fail("&& in a class");
    if (rest_[0] == ']') is_in_class_ = false;
    copy(1);
  }

  void take_outside() {
    const char c = rest_[0];
    if (c == '^' || c == '$') fail("an anchor");
    if (c == '[') {
      is_in_class_ = true;
      copy(rest_.starts_with("[^") ? 2 : 1);
      if (rest_.starts_with("]")) fail("an empty class");
    } else if (rest_.starts_with("(?")) {
      take_group();
    } else if (rest_.starts_with("(*")) {
      fail("a verb");
    } else if (rest_.starts_with("}+") || rest_.starts_with("{,")) {
      fail(rest_.substr(0, 2));  // of another meaning in PCRE2
    } else {
      copy(1);
    }
  }

  void take_group() {
    for (const std::string_view kind : {"(?:", "(?=", "(?!", "(?>", "(?i:"})
      if (rest_.starts_with(kind)) return copy(kind.size());
    fail(concat("the group ", printable(rest_.substr(0, 4))));
  }

  std::string_view pattern_, rest_;
  const std::string& place_;
  std::string result_;
  bool is_in_class_ = false;
};

}  // namespace

std::string pcre2_pattern(std::string_view pattern, const std::string& place) {
  return Translation(pattern, place).run();
}

std::string literal_pattern(std::string_view text) {
  std::string pattern;
  for (const char c : text) {
    const bool is_plain = is_alphanumeric(c) || static_cast<unsigned char>(c) >= 0x80 || c == ' ' ||
                          c == '\n' || c == '\t';
    if (!is_plain) pattern += '\\';
    pattern += c;
  }
  return pattern;
}

}  // namespace smoe
