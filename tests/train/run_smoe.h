// Runs the program, which is in the same folder as the test program.
#pragma once
#include <doctest/doctest.h>
#include <sys/wait.h>

#include <cstdio>
#include <string>

#include "tests/train/smoe_program.h"

namespace smoe::test {

struct Outcome {
  int exit_code;
  std::string output;
};

/// Runs `before smoe arguments` in a shell; returns its exit code and standard output.
inline Outcome run_smoe_after(const std::string& before, const std::string& arguments) {
  std::FILE* pipe = ::popen((before + " '" + smoe_program() + "' " + arguments).c_str(), "r");
  REQUIRE(pipe != nullptr);
  std::string output;
  for (int c; (c = std::fgetc(pipe)) != EOF;) output += static_cast<char>(c);
  const int status = ::pclose(pipe);
  REQUIRE(WIFEXITED(status));
  return {WEXITSTATUS(status), output};
}

/// Runs `smoe arguments` in a shell; returns its exit code and standard output.
inline Outcome run_smoe(const std::string& arguments) {
  return run_smoe_after("", arguments);
}

}  // namespace smoe::test
