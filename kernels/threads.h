// The number of threads that CPU kernels run on.
#pragma once

namespace smoe::kernels::cpu {

/// Sets the number of threads that kernels use, including the caller's. Must not be called while a
/// kernel runs.
/// Throws: UsageError unless 1 <= num_threads <= 1024.
void set_num_threads(int num_threads);

/// The number of threads that kernels use; num_usable_cores() of core/system/cores.h until
/// set_num_threads is called.
int num_threads();

}  // namespace smoe::kernels::cpu
