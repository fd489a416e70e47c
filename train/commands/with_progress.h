// Progress on standard error, for the commands that process files.
#pragma once
#include <unistd.h>

#include <cstdint>
#include <iostream>

#include "train/report/progress.h"

namespace smoe {

/// Returns work(show), where show(part, done, total) displays progress in bytes; clears the display
/// afterwards.
template <class Work>
auto with_progress(Work&& work) {
  Progress progress(std::cerr, ::isatty(STDERR_FILENO) == 1);
  return work([&](const char* part, std::int64_t done, std::int64_t total) {
    progress.update(part, done, total);
  });
}

}  // namespace smoe
