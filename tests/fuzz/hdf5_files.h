// Valid and crafted HDF5 files, written in memory by libhdf5.
#pragma once
#include <string>
#include <vector>

namespace smoe::fuzz {

/// Files in the formats of old and new library versions, with every feature that refers to another
/// file (`canary`), code or object: links, external storage, virtual data sets, filters; and with
/// sizes and structures at their limits.
std::vector<std::string> crafted_hdf5_files(const std::string& canary);

}  // namespace smoe::fuzz
