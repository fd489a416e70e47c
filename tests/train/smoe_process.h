// A separate `smoe` process, to observe and disturb.
#pragma once
#include <doctest/doctest.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <optional>
#include <string>
#include <vector>

#include "core/system/file.h"
#include "tests/train/smoe_program.h"

namespace smoe::test {

class SmoeProcess {
 public:
  /// Starts `smoe arguments...`, the program in the folder of the test program. Its output,
  /// including errors, goes to the file `output`.
  SmoeProcess(std::vector<std::string> arguments, const std::string& output) : output_(output) {
    arguments.insert(arguments.begin(), smoe_program());
    std::vector<char*> words;
    for (std::string& argument : arguments) words.push_back(argument.data());
    words.push_back(nullptr);
    const int file = ::open(output.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    REQUIRE(file >= 0);
    id_ = ::fork();
    REQUIRE(id_ >= 0);
    if (id_ == 0) {
      ::dup2(file, 1);
      ::dup2(file, 2);
      ::execv(words[0], words.data());
      ::_exit(127);
    }
    ::close(file);
  }
  ~SmoeProcess() {
    if (has_ended()) return;
    send(SIGKILL);
    wait();
  }
  SmoeProcess(const SmoeProcess&) = delete;
  SmoeProcess& operator=(const SmoeProcess&) = delete;

  pid_t id() const { return id_; }
  void send(int signal) { ::kill(id_, signal); }
  /// To the thread that runs main, as a fault in its code does.
  void send_to_main_thread(int signal) { ::syscall(SYS_tgkill, id_, id_, signal); }
  bool has_ended() {
    int status = 0;
    if (!status_ && ::waitpid(id_, &status, WNOHANG) == id_) status_ = status;
    return status_.has_value();
  }
  /// The status of waitpid.
  int wait() {
    int status = 0;
    if (!status_ && ::waitpid(id_, &status, 0) == id_) status_ = status;
    return *status_;
  }
  std::string output() const { return read_file(output_, 1 << 24); }

 private:
  pid_t id_ = -1;
  std::optional<int> status_;
  std::string output_;
};

}  // namespace smoe::test
