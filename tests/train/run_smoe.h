// Runs the program itself, which stands beside the program of the tests.
#pragma once
#include <doctest/doctest.h>
#include <sys/wait.h>

#include <cstdio>
#include <filesystem>
#include <string>

namespace smoe::test {

struct Outcome {
  int exit_code;
  std::string output;
};

/// What `smoe arguments`, as a shell reads it, returns and prints to standard output.
inline Outcome run_smoe(const std::string& arguments) {
  const auto program = std::filesystem::read_symlink("/proc/self/exe").replace_filename("smoe");
  std::FILE* pipe = ::popen(('"' + program.string() + "\" " + arguments).c_str(), "r");
  REQUIRE(pipe != nullptr);
  std::string output;
  for (int c; (c = std::fgetc(pipe)) != EOF;) output += static_cast<char>(c);
  const int status = ::pclose(pipe);
  REQUIRE(WIFEXITED(status));
  return {WEXITSTATUS(status), output};
}

}  // namespace smoe::test
