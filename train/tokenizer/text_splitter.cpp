#define PCRE2_CODE_UNIT_WIDTH 8
#include "train/tokenizer/text_splitter.h"

#include <pcre2.h>

#include <optional>

#include "core/base/check.h"
#include "core/system/text.h"
#include "train/tokenizer/ruby_pattern.h"

namespace smoe {
namespace {

struct FreeCode {
  void operator()(pcre2_code* code) const { pcre2_code_free(code); }
};
struct FreeMatchData {
  void operator()(pcre2_match_data* data) const { pcre2_match_data_free(data); }
};
using MatchData = std::unique_ptr<pcre2_match_data, FreeMatchData>;

MatchData new_match_data() {
  MatchData data(pcre2_match_data_create(1, nullptr));
  if (!data) throw SystemError("PCRE2: out of memory");
  return data;
}

std::string error_text(int code) {
  PCRE2_UCHAR text[128];
  pcre2_get_error_message(code, text, sizeof text);
  return reinterpret_cast<const char*>(text);
}

PCRE2_SPTR bytes_of(std::string_view text) {
  return reinterpret_cast<PCRE2_SPTR>(text.data());
}

}  // namespace

class TextSplitter::Pattern {
 public:
  Pattern(const std::string& pattern, const std::string& place) : place_(place) {
    constexpr std::size_t kMaxBytes = 1 << 16;
    SMOE_CHECK(pattern.size() <= kMaxBytes, place, ": a split pattern must have at most ",
               kMaxBytes, " bytes; got ", pattern.size());
    const std::string translated = pcre2_pattern(pattern, place);
    int code = 0;
    PCRE2_SIZE offset = 0;
    code_.reset(pcre2_compile(bytes_of(translated), translated.size(),
                              PCRE2_UTF | PCRE2_UCP | PCRE2_NEVER_BACKSLASH_C, &code, &offset,
                              nullptr));
    SMOE_CHECK(code_, place, ": the split pattern must be a regular expression; ", error_text(code),
               " in ", printable(pattern, 200));
    std::uint32_t matches_empty = 0;
    pcre2_pattern_info(code_.get(), PCRE2_INFO_MATCHEMPTY, &matches_empty);
    SMOE_CHECK(matches_empty == 0, place, ": the split pattern must not match empty text; got ",
               printable(pattern, 200));
    // Where machine code cannot be had, PCRE2 interprets the pattern.
    pcre2_jit_compile(code_.get(), PCRE2_JIT_COMPLETE | PCRE2_JIT_PARTIAL_HARD);
  }

  // The first match in `text` from `position` on; no value if there is none. Where `is_open`, more
  // text may follow, and a match that it could change is none: `limit` becomes where it could
  // begin.
  std::optional<TextRange> find(std::string_view text, std::size_t position, bool is_open,
                                pcre2_match_data* data, std::size_t& limit) const {
    const std::uint32_t options = PCRE2_NO_UTF_CHECK | (is_open ? PCRE2_PARTIAL_HARD : 0);
    int code =
        pcre2_match(code_.get(), bytes_of(text), text.size(), position, options, data, nullptr);
    if (code == PCRE2_ERROR_JIT_STACKLIMIT)
      code = pcre2_match(code_.get(), bytes_of(text), text.size(), position, options | PCRE2_NO_JIT,
                         data, nullptr);
    if (code == PCRE2_ERROR_NOMATCH) return {};
    const PCRE2_SIZE* const range = pcre2_get_ovector_pointer(data);
    if (code == PCRE2_ERROR_PARTIAL) {
      limit = range[0];
      return {};
    }
    SMOE_CHECK(code >= 0, place_, ": its split pattern cannot be matched: ", error_text(code));
    return TextRange{range[0], range[1]};
  }

  // Appends the pieces of text[range] to `pieces`. Where `is_open`, more text may follow: the last
  // part, whose pieces it could change, is left out and returned.
  TextRange split(std::string_view text, TextRange range, bool is_open, pcre2_match_data* data,
                  std::vector<TextRange>& pieces) const {
    const std::string_view part = text.substr(range.begin, range.end - range.begin);
    std::size_t done = 0, limit = part.size();
    while (const auto match = find(part, done, is_open, data, limit)) {
      if (match->begin > done) pieces.push_back({range.begin + done, range.begin + match->begin});
      pieces.push_back({range.begin + match->begin, range.begin + match->end});
      done = match->end;
    }
    if (!is_open && done < part.size()) pieces.push_back({range.begin + done, range.end});
    return {range.begin + done, range.begin + limit};
  }

 private:
  std::unique_ptr<pcre2_code, FreeCode> code_;
  std::string place_;
};

TextSplitter::TextSplitter(const std::vector<std::string>& patterns, const std::string& place) {
  for (const std::string& pattern : patterns) patterns_.emplace_back(pattern, place);
}

TextSplitter::~TextSplitter() = default;
TextSplitter::TextSplitter(TextSplitter&&) noexcept = default;
TextSplitter& TextSplitter::operator=(TextSplitter&&) noexcept = default;

std::vector<TextRange> TextSplitter::split(std::string_view text) const {
  const MatchData data = new_match_data();
  std::vector<TextRange> pieces, next;
  if (!text.empty()) pieces.push_back({0, text.size()});
  for (const Pattern& pattern : patterns_) {
    next.clear();
    for (const TextRange& piece : pieces) pattern.split(text, piece, false, data.get(), next);
    pieces.swap(next);
  }
  return pieces;
}

std::vector<TextRange> TextSplitter::settled_pieces(std::string_view text) const {
  const MatchData data = new_match_data();
  std::vector<TextRange> pieces, next;
  TextRange open{0, text.size()};  // a piece that may extend beyond its end
  for (const Pattern& pattern : patterns_) {
    next.clear();
    for (const TextRange& piece : pieces) pattern.split(text, piece, false, data.get(), next);
    open = pattern.split(text, open, true, data.get(), next);
    pieces.swap(next);
  }
  return pieces;
}

}  // namespace smoe
