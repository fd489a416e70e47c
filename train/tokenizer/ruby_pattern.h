// Regular expressions of tokenizer.json, whose syntax is Oniguruma's for Ruby, as PCRE2 writes
// them.
#pragma once
#include <string>
#include <string_view>

namespace smoe {

/// `pattern` for PCRE2 with Unicode properties, matching the same text. Known are classes, groups,
/// look-ahead, alternatives, quantifiers, \p, \s, \d, line breaks, tabs and escaped punctuation.
/// Throws: UsageError as `place: rule; got the pattern ...` for what the two libraries read
/// differently, such as anchors, look-behind, \w, \h and operations on classes.
std::string pcre2_pattern(std::string_view pattern, const std::string& place);

/// The pattern that matches `text` itself.
std::string literal_pattern(std::string_view text);

}  // namespace smoe
