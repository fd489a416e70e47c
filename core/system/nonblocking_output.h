// Terminals and pipes that other processes share: blocking or not is a property of the open file
// description, so this process opens its own.
#pragma once

namespace smoe {

/// A new descriptor, owned by the caller, for what `descriptor` writes to. For a terminal or a
/// pipe, writing to it fails with EAGAIN instead of blocking, and `descriptor`, which other
/// processes may share, keeps its mode. For anything else it is a plain duplicate. -1 when
/// `descriptor` is closed or the process has no descriptor left.
int reopen_nonblocking(int descriptor);

/// If `descriptor` is a terminal or pipe that does not block, replaces it by a description that
/// does, so that what is written to it is complete. Other processes keep their mode.
void restore_blocking(int descriptor);

}  // namespace smoe
