// The state of this process that it inherits from the one that started it.
#pragma once

namespace smoe {

/// To be called first in main. Opens /dev/null in place of closed standard streams, so that no file
/// opened later gets their descriptors and the messages meant for them. Makes them block. Ignores
/// SIGXFSZ, so that a write beyond the file size limit fails with an error instead of ending the
/// process.
void prepare_process();

/// Under a limit on address space (`ulimit -v`), starts the program again with
/// OPENBLAS_NUM_THREADS=1 unless the variable is set. OpenBLAS reads it before main begins, and
/// without it starts threads that wait forever for memory they cannot get, even at exit. Such
/// threads would be idle: kernels call OpenBLAS from threads of their own.
void restart_without_openblas_threads(char** argv);

}  // namespace smoe
