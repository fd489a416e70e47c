// Finds the text in one line of JSON lines.
#pragma once
#include <string>

namespace smoe {

/// Extracts a text field of the JSON object `line` to `text`: `field` names it, or with dots its
/// path through objects. Returns what is wrong with the line, empty if it is valid. Numbers in
/// other fields may be larger than a double: they are replaced in `line`.
std::string find_text_field(std::string& line, const std::string& field, std::string& text);

}  // namespace smoe
