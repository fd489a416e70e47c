// The path of the program `smoe`.
#pragma once
#include <filesystem>
#include <string>

namespace smoe::test {

/// The program in the folder of the running test program.
inline std::string smoe_program() {
  return std::filesystem::read_symlink("/proc/self/exe").replace_filename("smoe").string();
}

}  // namespace smoe::test
