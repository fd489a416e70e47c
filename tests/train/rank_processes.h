// The ranks of a job as processes of the program, with the rendezvous store in this process.
#pragma once
#include <doctest/doctest.h>
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <functional>
#include <string>
#include <thread>
#include <vector>

#include "core/distributed/rendezvous_server.h"
#include "core/system/deadline.h"
#include "core/system/file.h"
#include "tests/train/smoe_program.h"

namespace smoe::test {

class RankProcesses {
 public:
  using TextsOf = std::function<std::vector<std::string>(int rank)>;

  /// Starts `smoe arguments_of(rank)` for each rank, with variables "NAME=value" in addition to
  /// those of a launcher; output goes to files in `folder`.
  RankProcesses(
      const std::string& folder, int world_size, const TextsOf& arguments_of,
      const TextsOf& variables_of = [](int) { return std::vector<std::string>(); })
      : folder_(folder), server_({.job_id = "test"}) {
    for (int rank = 0; rank < world_size; ++rank)
      start(rank, world_size, arguments_of(rank), variables_of(rank));
  }
  ~RankProcesses() {
    for (Rank& rank : ranks_)
      if (rank.status < 0) {
        ::kill(rank.pid, SIGKILL);
        ::waitpid(rank.pid, &rank.status, 0);
      }
  }
  RankProcesses(const RankProcesses&) = delete;
  RankProcesses& operator=(const RankProcesses&) = delete;

  void send(int rank, int signal) { ::kill(ranks_[rank].pid, signal); }
  /// The output of the rank on both streams.
  std::string output(int rank) const { return read_file(output_path(rank), 1 << 20); }

  /// The exit code of the rank, or minus the signal that ended it; fails the test after `seconds`.
  int wait(int rank, double seconds = 60) {
    Rank& one = ranks_[rank];
    const Deadline deadline = Deadline::in(seconds);
    while (one.status < 0) {
      int status = 0;
      if (::waitpid(one.pid, &status, WNOHANG) == one.pid) one.status = status;
      if (one.status >= 0) break;
      INFO("rank ", rank, " printed: ", output(rank));
      REQUIRE_FALSE(deadline.has_passed());
      std::this_thread::sleep_for(std::chrono::milliseconds(2));
    }
    return WIFEXITED(one.status) ? WEXITSTATUS(one.status) : -WTERMSIG(one.status);
  }
  std::vector<int> wait_all(double seconds = 60) {
    std::vector<int> codes;
    for (std::size_t rank = 0; rank < ranks_.size(); ++rank)
      codes.push_back(wait(static_cast<int>(rank), seconds));
    return codes;
  }

 private:
  struct Rank {
    pid_t pid = -1;
    int status = -1;
  };

  std::string output_path(int rank) const {
    return folder_ + "/rank-" + std::to_string(rank) + ".txt";
  }

  void start(int rank, int world_size, std::vector<std::string> arguments,
             std::vector<std::string> variables) {
    const std::string program = smoe_program();
    arguments.insert(arguments.begin(), program);
    const std::string n = std::to_string(world_size), r = std::to_string(rank);
    for (const std::string& variable :
         {"RANK=" + r, "WORLD_SIZE=" + n, "LOCAL_RANK=" + r, "LOCAL_WORLD_SIZE=" + n,
          "SMOE_RDZV_ENDPOINT=127.0.0.1:" + std::to_string(server_.port()),
          std::string("SMOE_RDZV_SERVED=1"), std::string("SMOE_JOB_ID=test")})
      variables.push_back(variable);
    for (char** variable = environ; *variable; ++variable) variables.emplace_back(*variable);
    posix_spawn_file_actions_t actions;
    ::posix_spawn_file_actions_init(&actions);
    ::posix_spawn_file_actions_addopen(&actions, 1, output_path(rank).c_str(),
                                       O_WRONLY | O_CREAT | O_TRUNC, 0600);
    ::posix_spawn_file_actions_adddup2(&actions, 1, 2);
    Rank& one = ranks_.emplace_back();
    REQUIRE(::posix_spawn(&one.pid, program.c_str(), &actions, nullptr, pointers(arguments).data(),
                          pointers(variables).data()) == 0);
    ::posix_spawn_file_actions_destroy(&actions);
  }

  static std::vector<char*> pointers(std::vector<std::string>& texts) {
    std::vector<char*> result;
    for (std::string& text : texts) result.push_back(text.data());
    result.push_back(nullptr);
    return result;
  }

  std::string folder_;
  RendezvousServer server_;
  std::vector<Rank> ranks_;
};

}  // namespace smoe::test
