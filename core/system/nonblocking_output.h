// Writing to a terminal or pipe that other processes share, without ever blocking on its reader.
#pragma once

namespace smoe {

/// A new descriptor, owned by the caller, for what `descriptor` writes to. For a terminal or a
/// pipe, writing to it fails with EAGAIN instead of blocking, and `descriptor`, which other
/// processes may share, keeps its mode. For anything else it is a plain duplicate. -1 when
/// `descriptor` is closed or the process has no descriptor left.
int reopen_nonblocking(int descriptor);

}  // namespace smoe
