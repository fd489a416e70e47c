// HDF5 files as libhdf5 writes them by itself, in memory: ordinary ones and crafted ones.
#pragma once
#include <string>
#include <vector>

namespace smoe::fuzz {

/// Files in the formats of old and of new libraries, made of every feature that names another file
/// (`canary`), code or place: links, external storage, virtual data sets, filters; and of sizes and
/// structures at their limits.
std::vector<std::string> crafted_hdf5_files(const std::string& canary);

}  // namespace smoe::fuzz
