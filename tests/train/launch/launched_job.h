// Runs the program `smoe launch`, with shell commands as ranks.
#pragma once
#include <doctest/doctest.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <filesystem>
#include <sstream>
#include <string>
#include <thread>
#include <vector>

#include "core/system/deadline.h"
#include "core/system/folder.h"
#include "tests/support/temporary_folder.h"

namespace smoe::test {

/// Polls until `done` returns true or the time is over; returns the last result.
template <class Done>
bool happens_within(double seconds, Done&& done) {
  for (const Deadline deadline = Deadline::in(seconds); !deadline.has_passed();) {
    if (done()) return true;
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
  }
  return done();
}

inline std::string contents(const std::string& path) {
  return kind_of(path) == PathKind::file ? read_file(path, 1 << 28) : "";
}

/// Whether the process is running; zombies are not.
inline bool is_running(pid_t pid) {
  std::string stat(512, '\0');
  try {
    const File file = File::open("/proc/" + std::to_string(pid) + "/stat");
    stat.resize(file.read_some_at(0, stat.data(), 512));
  } catch (const SystemError&) {
    return false;
  }
  const std::size_t name_end = stat.rfind(')');
  return name_end != std::string::npos && stat[name_end + 2] != 'Z' && stat[name_end + 2] != 'X';
}

/// The numbers in a text; ranks write their process ids.
inline std::vector<pid_t> numbers_in(const std::string& text) {
  std::istringstream words(text);
  std::vector<pid_t> numbers;
  for (pid_t number; words >> number;) numbers.push_back(number);
  return numbers;
}

/// A launcher that runs in the background; its output goes to files.
class LaunchedJob {
 public:
  /// `flags` are in shell syntax. Each rank runs `script`, in which $DIR is folder(); with an empty
  /// script, `flags` include the command. Output goes to output_path() unless `output` is given.
  explicit LaunchedJob(const std::string& flags, const std::string& script = "",
                       const std::string& output = "") {
    const auto program = std::filesystem::read_symlink("/proc/self/exe").replace_filename("smoe");
    ::setenv("SCRIPT", script.c_str(), 1);
    ::setenv("DIR", folder().c_str(), 1);
    const std::string command = "exec '" + program.string() + "' launch " + flags +
                                (script.empty() ? "" : " --no-python sh -c \"$SCRIPT\"") + " >'" +
                                (output.empty() ? output_path() : output) + "' 2>'" + error_path() +
                                "'";
    begin_ = std::chrono::steady_clock::now();
    pid_ = ::fork();
    REQUIRE(pid_ >= 0);
    if (pid_ == 0) {
      ::execl("/bin/sh", "sh", "-c", command.c_str(), nullptr);
      ::_exit(127);
    }
  }
  ~LaunchedJob() {
    if (pid_ <= 0) return;
    ::kill(pid_, SIGKILL);
    wait();
  }
  LaunchedJob(const LaunchedJob&) = delete;
  LaunchedJob& operator=(const LaunchedJob&) = delete;

  const std::string& folder() const { return folder_.path(); }
  std::string output_path() const { return folder_ / "output"; }
  std::string error_path() const { return folder_ / "error"; }
  std::string output() const { return contents(output_path()); }
  std::string error() const { return contents(error_path()); }
  std::string file(const std::string& name) const { return contents(folder_ / name); }
  pid_t pid() const { return pid_; }

  /// The process of a rank that runs now; 0 when it does not.
  pid_t pid_of_rank(int rank) const {
    const auto read = [](const std::string& path) {
      std::string text(std::size_t{1} << 16, '\0');
      try {
        text.resize(File::open(path).read_some_at(0, text.data(), 1 << 16));
      } catch (const SystemError&) {  // it has ended
        return std::string();
      }
      return text;
    };
    const std::string launcher = std::to_string(pid_);
    const std::string children = read("/proc/" + launcher + "/task/" + launcher + "/children");
    const std::string variable = std::string(1, '\0') + "RANK=" + std::to_string(rank) + '\0';
    for (const pid_t pid : numbers_in(children))
      if (read("/proc/" + std::to_string(pid) + "/environ").find(variable) != std::string::npos)
        return pid;
    return 0;
  }

  void send(int signal) const { ::kill(pid_, signal); }

  /// Returns the exit code, or minus the signal that killed the launcher itself.
  int wait() {
    int status = 0;
    while (::waitpid(pid_, &status, 0) < 0 && errno == EINTR) {
    }
    pid_ = 0;
    const std::chrono::duration<double> passed = std::chrono::steady_clock::now() - begin_;
    seconds_ = passed.count();
    return WIFSIGNALED(status) ? -WTERMSIG(status) : WEXITSTATUS(status);
  }
  /// From the start to the end of wait().
  double seconds() const { return seconds_; }

  /// The last line that the launcher printed, without its prefix.
  std::string last_line() const {
    std::string text = error();
    while (!text.empty() && text.back() == '\n') text.pop_back();
    text.erase(0, text.rfind('\n') + 1);
    return text.starts_with("smoe launch: ") ? text.substr(13) : "no line of the launcher: " + text;
  }

 private:
  TemporaryFolder folder_;
  std::chrono::steady_clock::time_point begin_;
  pid_t pid_ = 0;
  double seconds_ = 0;
};

}  // namespace smoe::test
