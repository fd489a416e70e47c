// Standard output and error whose reader may go away: a pipe to `tee` or `head`, a closed terminal.
#pragma once

namespace smoe {

/// From now on, writing to a pipe without a reader is an error instead of SIGPIPE, which would end
/// the process.
void ignore_broken_pipes();

/// Whether what is written to `descriptor` (1 or 2) is lost because its reader is gone.
bool is_reader_gone(int descriptor);

}  // namespace smoe
