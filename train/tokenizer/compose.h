// Unicode normalization.
#pragma once
#include <string>
#include <string_view>

namespace smoe {

/// Valid UTF-8 `text` in Unicode's normalization form C. Before an ASCII character it may be cut:
/// the parts' forms, concatenated, are the form of the whole.
std::string composed(std::string_view text);

}  // namespace smoe
