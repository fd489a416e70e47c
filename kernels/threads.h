// The number of threads CPU kernels run on.
#pragma once

namespace smoe::kernels::cpu {

/// Sets the number of threads kernels use, the caller's included. Not while a kernel runs.
/// Throws: UsageError unless 1 <= num_threads <= 1024.
void set_num_threads(int num_threads);

/// The number of threads kernels use; the machine's cores until set_num_threads is called.
int num_threads();

}  // namespace smoe::kernels::cpu
