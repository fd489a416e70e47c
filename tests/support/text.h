// Text in tests.
#pragma once
#include <string>

namespace smoe::test {

inline bool contains(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

}  // namespace smoe::test
