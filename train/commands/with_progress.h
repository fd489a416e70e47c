// Progress on standard error, and stopping by signals, for the commands that process files.
#pragma once
#include <unistd.h>

#include <csignal>
#include <cstdint>
#include <iostream>
#include <optional>
#include <string>

#include "core/system/standard_output.h"
#include "train/report/progress.h"
#include "train/signals.h"

namespace smoe {

/// Thrown to end a command because of a signal. Not an error.
struct Unfinished : Stopped {
  std::string consequence;  ///< appended to the message: "; data/set.h5 was not written"
};

/// Returns work(show), where show(part, done, total) displays progress in bytes; clears the display
/// afterwards. A signal makes the next `show` throw Unfinished with `consequence`. A part with the
/// total 0 cannot be left, so the signal then takes its default action. Readers of the output that
/// are gone do not end the command.
template <class Work>
auto with_progress(const std::string& consequence, Work&& work) {
  ignore_broken_pipes();
  std::optional<StopSignals> signals("stopping");
  Progress progress(std::cerr, ::isatty(STDERR_FILENO) == 1);
  return work([&](const char* part, std::int64_t done, std::int64_t total) {
    progress.update(part, done, total);
    const int signal = signals ? signals->received() : 0;
    if (signal == 0) return;
    if (total != 0) throw Unfinished{{signal}, consequence};
    signals.reset();
    std::raise(signal);
  });
}

}  // namespace smoe
