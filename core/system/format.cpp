#include "core/system/format.h"

#include <fmt/chrono.h>
#include <fmt/format.h>

#include <ctime>

namespace smoe {
namespace {

// Three digits, in the unit that leaves at most three before the point.
std::string scaled(double number, std::initializer_list<const char*> units) {
  const auto* unit = units.begin();
  // 999.5 rather than 1000: it rounds to 1000, which has a fourth digit.
  for (; number >= 999.5 && unit + 1 != units.end(); ++unit) number /= 1e3;
  const bool is_whole = unit == units.begin();
  const int decimals = is_whole || number >= 99.95 ? 0 : number < 9.995 ? 2 : 1;
  return fmt::format("{:.{}f}{}{}", number, decimals, **unit == 0 ? "" : " ", *unit);
}

}  // namespace

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
  return scaled(number, {"", "k", "M", "B", "T"});
}

std::string labelled(std::string_view label, std::string_view text) {
  return fmt::format("  {:<16}{}\n", label, text);
}

std::string short_flops(double number) {
  return scaled(number, {"FLOP", "kFLOP", "MFLOP", "GFLOP", "TFLOP", "PFLOP", "EFLOP", "ZFLOP"});
}

std::string format_duration(double seconds) {
  if (!std::isfinite(seconds) || seconds < 0 || seconds >= 1e5 * 86400) return "?";
  if (seconds < 9.95) return fmt::format("{:.1f}s", seconds);
  const auto whole = static_cast<std::int64_t>(std::llround(seconds));
  if (whole < 60) return fmt::format("{}s", whole);
  if (whole < 3600) return fmt::format("{}m{:02}s", whole / 60, whole % 60);
  if (whole < 86400) return fmt::format("{}h{:02}m", whole / 3600, whole % 3600 / 60);
  if (whole < 100 * 86400) return fmt::format("{}d{:02}h", whole / 86400, whole % 86400 / 3600);
  return fmt::format("{}d", whole / 86400);
}

std::string utc_time() {
  return fmt::format("{:%FT%TZ}", fmt::gmtime(std::time(nullptr)));
}

std::string format_bytes(std::int64_t bytes) {
  constexpr const char* kUnits[] = {"KiB", "MiB", "GiB", "TiB", "PiB"};
  if (bytes < 1024) return fmt::format("{} B", bytes);
  double value = static_cast<double>(bytes) / 1024;
  int unit = 0;
  // 999.5 rather than 1024: it rounds to 1000, which has a fourth digit.
  for (; value >= 999.5 && unit < 4; ++unit) value /= 1024;
  const int decimals = value < 9.995 ? 2 : value < 99.95 ? 1 : 0;
  return fmt::format("{:.{}f} {}", value, decimals, kUnits[unit]);
}

}  // namespace smoe
