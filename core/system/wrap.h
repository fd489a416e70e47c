// Line breaks for text on a terminal.
#pragma once
#include <cstddef>
#include <string>

namespace smoe {

/// `text` with lines of more than `width` bytes broken at spaces; what follows such a break begins
/// with `indent` spaces. A longer word has a line of its own. Unchanged if `width` is 0, which
/// stands for no limit, or at most `indent`.
std::string wrapped(std::string text, std::size_t indent, std::size_t width);

}  // namespace smoe
