#include "core/system/wrap.h"

namespace smoe {

std::string wrapped(std::string text, std::size_t indent, std::size_t width) {
  if (const std::size_t end = text.find('\n'); end != std::string::npos)
    return wrapped(text.substr(0, end), indent, width) + "\n" +
           wrapped(text.substr(end + 1), indent, width);
  std::string lines;
  while (width > indent && text.size() > width) {
    std::size_t cut = text.rfind(' ', width);
    if (cut == std::string::npos || cut < indent) cut = text.find(' ', width);
    if (cut == std::string::npos) break;
    lines += text.substr(0, cut) + "\n";
    text.replace(0, cut + 1, indent, ' ');
  }
  return lines + text;
}

}  // namespace smoe
