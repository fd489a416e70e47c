#include "train/report/format.h"

#include <fmt/format.h>

namespace smoe {

std::string grouped(std::int64_t number) {
  std::string digits = std::to_string(number);
  const std::size_t first = number < 0 ? 1 : 0;
  for (std::size_t i = digits.size(); i > first + 3; i -= 3) digits.insert(i - 3, 1, ',');
  return digits;
}

std::string counted(std::int64_t number, const std::string& noun) {
  return grouped(number) + " " + noun + (number == 1 ? "" : "s");
}

std::string short_count(double number) {
  if (number < 999.5) return fmt::format("{:.0f}", number);
  constexpr const char* kUnits[] = {"k", "M", "B", "T"};
  int unit = 0;
  // 999.5 and not 1000, so that the number never needs a fourth digit.
  for (number /= 1e3; number >= 999.5 && unit < 3; ++unit) number /= 1e3;
  const int decimals = number < 9.995 ? 2 : number < 99.95 ? 1 : 0;
  return fmt::format("{:.{}f} {}", number, decimals, kUnits[unit]);
}

}  // namespace smoe
