// The axis of a chart: where it begins and ends, its round ticks and what they are called.
#pragma once
#include <cstdint>
#include <string>
#include <vector>

namespace smoe {

struct Tick {
  double at = 0;  ///< place on the axis: 0 at its begin, 1 at its end
  std::string label;
};

/// What an axis counts: round numbers of bytes are powers of two.
enum class Unit : std::uint8_t { number, bytes };

struct Axis {
  double low = 0, high = 1;
  bool is_log = false;
  std::vector<Tick> ticks{};

  /// Where `value` is: 0 at low, 1 at high; cut off there.
  double place(double value) const;
};

/// From `low` to `high` exactly, with at most `max_ticks` ticks: at multiples of 1, 2 or 5 times a
/// power of ten, and at whole numbers where `is_whole`.
Axis axis_from(double low, double high, int max_ticks, bool is_whole = false);

/// Widened to ticks at both ends; not below 0 unless `low` is.
Axis axis_around(double low, double high, int max_ticks, Unit unit = Unit::number);

/// Logarithmic, widened to a tick at both ends: powers of ten, with 2 and 5 times them on a short
/// axis. `low` must be positive.
Axis log_axis_around(double low, double high);

/// Three or four digits and a unit: "2.346", "12.3k", "3.48M", "1.2e-5".
std::string short_number(double value);

}  // namespace smoe
