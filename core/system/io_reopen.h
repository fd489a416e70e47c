// Writing to a terminal or pipe that others use too, without ever waiting for its reader.
#pragma once

namespace smoe {

/// A descriptor of the caller's own for what `descriptor` writes to. Where that is a terminal or a
/// pipe, writing to the new one fails with EAGAIN instead of waiting, and the old one, which other
/// processes may share, stays as it was. Otherwise it is a plain duplicate. -1 when `descriptor` is
/// closed or none is left.
int reopen_without_waiting(int descriptor);

}  // namespace smoe
