// The console lines of a run: aligned and of constant width, one function per report.
#pragma once
#include <cstdint>
#include <string>

#include "train/report/report.h"

namespace smoe {

/// Plain text for files and pipes; on a terminal labels are dim, losses bold, problems yellow.
enum class LineStyle : std::uint8_t { plain, terminal };

/// `terminal` if standard output is a terminal with colors and NO_COLOR is unset or empty.
LineStyle console_style();

/// Width in characters of the terminal at standard output; 0 if it is not a terminal.
std::size_t console_width();

///   step  120/2000  loss  2.3456  lr 3.00e-04  norm 0.812   12.3k tok/s  1.24 GiB  imb  1.32
///   eta  1m42s
/// on one line. The memory is the peak, "imb" the imbalance. Followed by "dead 2" if experts got no
/// token and by "skipped: not finite" if the update was not applied. No newline.
/// If `width` is not 0, whole columns are dropped until the line fits: learning rate and memory
/// first, then norm and imbalance, then throughput and remaining time.
std::string console_line(const StepReport& report, LineStyle style = LineStyle::plain,
                         std::size_t width = 0);

///   step  200/2000  validation loss 2.1234  bits per byte 3.0635  in 1.2s
/// No newline.
std::string console_line(const ValidationReport& report, LineStyle style = LineStyle::plain,
                         std::size_t width = 0);

///   step  200/3000  changed: train.steps 2000 -> 3000
/// No newline.
std::string console_line(const ChangeReport& report, LineStyle style = LineStyle::plain,
                         std::size_t width = 0);

}  // namespace smoe
