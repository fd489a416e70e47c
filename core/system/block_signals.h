// BlockSignals: threads that are started while one lives are interrupted by no signal; those go to
// the main thread, whose business they are.
#pragma once
#include <pthread.h>
#include <signal.h>

namespace smoe {

class BlockSignals {
 public:
  BlockSignals() {
    sigset_t all;
    ::sigfillset(&all);
    ::pthread_sigmask(SIG_BLOCK, &all, &former_);
  }
  ~BlockSignals() { ::pthread_sigmask(SIG_SETMASK, &former_, nullptr); }
  BlockSignals(const BlockSignals&) = delete;
  BlockSignals& operator=(const BlockSignals&) = delete;

 private:
  sigset_t former_;
};

}  // namespace smoe
