// The number of threads that CPU kernels run on.
#pragma once

namespace smoe::kernels::cpu {

constexpr int kMaxThreads = 1024;

/// Sets the number of threads that kernels use, including the caller's: `num_threads`, at most
/// kMaxThreads. Must not be called while a kernel runs.
/// Throws: UsageError unless num_threads >= 1.
void set_num_threads(int num_threads);

/// The number of threads that kernels use; num_usable_cores() of core/system/cores.h, at most
/// kMaxThreads, until set_num_threads is called.
int num_threads();

}  // namespace smoe::kernels::cpu
