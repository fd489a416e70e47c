// The lines a run shows on the console: aligned, of stable width, one function each.
#pragma once
#include <cstdint>
#include <string>

#include "train/report/report.h"

namespace smoe {

/// Plain bytes for files and pipes; on a terminal labels are dim, losses bold and trouble yellow.
enum class LineStyle : std::uint8_t { plain, terminal };

/// terminal when standard output is one that shows colours and NO_COLOR is unset or empty.
LineStyle console_style();

/// Characters in a line of the terminal that standard output is; 0 when it is none.
std::size_t console_width();

///   step  120/2000  loss  2.3456  lr 3.00e-04  norm 0.812   12.3k tok/s  1.24 GiB  imb  1.32
///   eta  1m42s
/// on one line. The memory is the peak, "imb" the imbalance. Followed by "dead 2" where experts got
/// no token and by "skipped: not finite" where the update was not applied. No newline.
/// Where `width` is not 0, whole columns are left out until the line fits: learning rate and memory
/// first, then norm and imbalance, then pace.
std::string console_line(const StepReport& report, LineStyle style = LineStyle::plain,
                         std::size_t width = 0);

///   step  200/2000  validation loss 2.1234  bits per byte 3.0635  in 1.2s
/// No newline.
std::string console_line(const ValidationReport& report, LineStyle style = LineStyle::plain,
                         std::size_t width = 0);

}  // namespace smoe
