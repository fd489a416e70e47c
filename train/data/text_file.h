// The text files that `smoe prepare` reads, found in folders.
#pragma once
#include <cstdint>
#include <string>
#include <vector>

namespace smoe {

struct TextFile {
  std::string path;
  std::string name;        ///< for messages: the path, or what it is a copy of
  std::string real_path;   ///< with links followed, so that a file by two paths is one
  bool is_named = false;   ///< given by path, not found in a folder
  std::int64_t bytes = 0;  ///< on disk
};

/// What stands for standard input among inputs.
inline constexpr const char* kStandardInput = "-";

/// The files of `inputs`, in order; folders are listed recursively, entries ordered by the bytes of
/// their names. Inside folders links are followed, hidden entries (".git") are skipped, and so is
/// what was listed before, by any path.
/// `copy_of_standard_input`: the file that is read for kStandardInput.
/// Throws: UsageError for an input that does not exist, a file that is given twice, or when there
/// is no file at all; SystemError.
std::vector<TextFile> list_text_files(const std::vector<std::string>& inputs,
                                      const std::string& copy_of_standard_input = "");

}  // namespace smoe
