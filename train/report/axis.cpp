#include "train/report/axis.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

namespace smoe {
namespace {

struct Scale {
  double unit;
  const char* name;
};

// The scale of labels up to `high`.
Scale scale_of(double high, Unit unit) {
  static constexpr Scale kDecimal[] = {{1e12, "T"}, {1e9, "B"}, {1e6, "M"}, {1e3, "k"}};
  static constexpr Scale kBinary[] = {
      {0x1p40, " TiB"}, {0x1p30, " GiB"}, {0x1p20, " MiB"}, {0x1p10, " KiB"}};
  if (unit == Unit::bytes) {
    for (const Scale& scale : kBinary)
      if (high >= scale.unit) return scale;
    return {1, " B"};
  }
  // 2000 is as short as 2k and easier to read.
  for (const Scale& scale : kDecimal)
    if (high >= (scale.unit == 1e3 ? 1e4 : scale.unit)) return scale;
  return {1, ""};
}

// The smallest round number that is at least `least`.
double round_step(double least, Unit unit) {
  if (unit == Unit::bytes) return std::exp2(std::ceil(std::log2(std::max(least, 1.0))));
  const double power = std::pow(10, std::floor(std::log10(least)));
  for (const double digit : {1.0, 2.0, 5.0})
    if (digit * power >= least * (1 - 1e-9)) return digit * power;
  return 10 * power;
}

// "3e-4" for "3e-04".
std::string short_exponent(std::string text) {
  const std::size_t sign = text.find('e') + 1;
  if (text[sign + 1] == '0') text.erase(sign + 1, 1);
  return text;
}

// The label of `value`, a multiple of `step` on an axis up to `high`, with as few digits as
// possible.
std::string tick_label(double value, double step, double high, Unit unit) {
  if (value == 0) return unit == Unit::bytes ? "0 B" : "0";
  if (unit == Unit::number && high < 0.01) {
    const double power = std::floor(std::log10(std::abs(value)));
    const bool is_whole = std::abs(std::remainder(value / std::pow(10, power), 1)) < 1e-6;
    return short_exponent(fmt::format("{:.{}e}", value, is_whole ? 0 : 1));
  }
  const Scale scale = scale_of(high, unit);
  int decimals = 0;
  for (double rest = step / scale.unit; decimals < 6; ++decimals, rest *= 10)
    if (std::abs(std::remainder(rest, 1)) < 1e-6) break;
  return fmt::format("{:.{}f}{}", value / scale.unit, decimals, scale.name);
}

void add_ticks(Axis& axis, double step, Unit unit) {
  // Multiples, not repeated additions, so that rounding errors do not accumulate.
  const auto first = static_cast<std::int64_t>(std::ceil(axis.low / step - 1e-9));
  const auto last = static_cast<std::int64_t>(std::floor(axis.high / step + 1e-9));
  for (std::int64_t i = first; i <= last; ++i) {
    const double value = static_cast<double>(i) * step;
    axis.ticks.push_back({axis.position_of(value), tick_label(value, step, axis.high, unit)});
  }
}

}  // namespace

double Axis::position_of(double value) const {
  const double share =
      is_log ? std::log(value / low) / std::log(high / low) : (value - low) / (high - low);
  return std::clamp(share, 0.0, 1.0);
}

Axis axis_from(double low, double high, int max_ticks, bool is_whole) {
  Axis axis{.low = low, .high = high > low ? high : low + 1};
  double step = round_step((axis.high - axis.low) / max_ticks, Unit::number);
  if (is_whole) step = std::max(step, 1.0);
  add_ticks(axis, step, Unit::number);
  return axis;
}

Axis axis_around(double low, double high, int max_ticks, Unit unit) {
  // A constant gets a margin on both sides.
  if (high - low <= 1e-9 * std::abs(high)) {
    const double margin = high == 0 ? 1 : 0.05 * std::abs(high);
    high += margin;
    low = low >= 0 ? std::max(0.0, low - margin) : low - margin;
  }
  const double step = round_step(std::max(high - low, 1e-300) / max_ticks, unit);
  Axis axis{.low = step * std::floor(low / step + 1e-9),
            .high = step * std::ceil(high / step - 1e-9)};
  if (axis.high <= axis.low) axis.high = axis.low + step;
  add_ticks(axis, step, unit);
  return axis;
}

Axis log_axis_around(double low, double high) {
  high = std::max(high, low);
  const bool is_short = std::log10(high / low) < 2.5;
  Axis axis{.low = 0, .high = 0, .is_log = true};
  std::vector<double> values;
  for (double power = std::floor(std::log10(low)); power <= std::ceil(std::log10(high)); ++power)
    for (const double digit : {1.0, 2.0, 5.0})
      if (digit == 1 || is_short) values.push_back(digit * std::pow(10, power));
  // The last value not above `low` and the first not below `high` are the ends.
  const auto begin = std::prev(std::upper_bound(values.begin(), values.end(), low * (1 + 1e-9)));
  auto end = std::lower_bound(values.begin(), values.end(), high * (1 - 1e-9));
  if (end == begin) ++end;
  axis.low = *begin;
  axis.high = *end;
  const auto count = static_cast<std::size_t>(end - begin + 1);
  const std::size_t every = (count + 7) / 8;
  for (auto value = begin; value <= end; ++value)
    if ((value - begin) % every == 0)
      axis.ticks.push_back({axis.position_of(*value), short_number(*value)});
  return axis;
}

std::string short_number(double value) {
  if (!std::isfinite(value)) return fmt::format("{}", value);
  const double size = std::abs(value);
  if (size != 0 && size < 1e-3) {
    const std::string text = fmt::format("{:.2e}", value);
    const std::size_t e = text.find('e');
    std::size_t end = text.find_last_not_of('0', e - 1);
    if (text[end] == '.') --end;
    return short_exponent(text.substr(0, end + 1) + text.substr(e));
  }
  const Scale scale = scale_of(size, Unit::number);
  std::string text = fmt::format("{:.4g}", value / scale.unit);
  return text + scale.name;
}

}  // namespace smoe
