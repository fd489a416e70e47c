#include "train/launch/signal_source.h"

#include <poll.h>
#include <signal.h>
#include <sys/signalfd.h>

#include <cerrno>
#include <system_error>

#include "core/base/check.h"

namespace smoe {

SignalSource::SignalSource(PollLoop& loop) : loop_(loop) {
  sigset_t signals;
  ::sigemptyset(&signals);
  for (const int signal : {SIGCHLD, SIGINT, SIGTERM, SIGHUP, SIGUSR1, SIGUSR2, SIGXCPU})
    ::sigaddset(&signals, signal);
  ::pthread_sigmask(SIG_BLOCK, &signals, nullptr);
  ::signal(SIGPIPE, SIG_IGN);
  descriptor_ = Descriptor(::signalfd(-1, &signals, SFD_CLOEXEC | SFD_NONBLOCK));
  if (!descriptor_.is_open())
    throw SystemError(concat("signalfd: ", std::generic_category().message(errno)));
  loop_.watch(descriptor_.number(), POLLIN, [this] {
    signalfd_siginfo info;
    while (::read(descriptor_.number(), &info, sizeof info) == sizeof info)
      received_.push_back(static_cast<int>(info.ssi_signo));
  });
}

SignalSource::~SignalSource() {
  loop_.forget(descriptor_.number());
}

std::vector<int> SignalSource::take() {
  return std::exchange(received_, {});
}

}  // namespace smoe
