// BlockSignals: blocks all signals in threads started in its scope, so that signals are delivered
// to the main thread, which handles them.
#pragma once
#include <pthread.h>
#include <signal.h>

namespace smoe {

class BlockSignals {
 public:
  BlockSignals() {
    sigset_t all;
    ::sigfillset(&all);
    ::pthread_sigmask(SIG_BLOCK, &all, &previous_);
  }
  ~BlockSignals() { ::pthread_sigmask(SIG_SETMASK, &previous_, nullptr); }
  BlockSignals(const BlockSignals&) = delete;
  BlockSignals& operator=(const BlockSignals&) = delete;

 private:
  sigset_t previous_;
};

}  // namespace smoe
