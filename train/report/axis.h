// The axis of a chart: its range and its labeled round ticks.
#pragma once
#include <cstdint>
#include <string>
#include <vector>

namespace smoe {

struct Tick {
  double at = 0;  ///< position on the axis, from 0 to 1
  std::string label;
};

/// The unit of an axis: round numbers of bytes are powers of two.
enum class Unit : std::uint8_t { number, bytes };

struct Axis {
  double low = 0, high = 1;
  bool is_log = false;
  std::vector<Tick> ticks{};

  /// The position of `value`: 0 at `low`, 1 at `high`; clamped to this range.
  double position_of(double value) const;
};

/// From `low` to `high` exactly, with at most `max_ticks` ticks: at multiples of 1, 2 or 5 times a
/// power of ten, and at integers if `is_whole`.
Axis axis_from(double low, double high, int max_ticks, bool is_whole = false);

/// Extended to ticks at both ends; not below 0 unless `low` is.
Axis axis_around(double low, double high, int max_ticks, Unit unit = Unit::number);

/// Logarithmic, extended to ticks at both ends: powers of ten, also times 2 and 5 on a short axis.
/// `low` must be positive.
Axis log_axis_around(double low, double high);

/// Three or four digits and a unit: "2.346", "12.3k", "3.48M", "1.2e-5".
std::string short_number(double value);

}  // namespace smoe
