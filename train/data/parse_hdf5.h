// Reading the table of data sets of an untrusted HDF5 file. libhdf5 runs in a sandboxed subprocess
// (core/system/sandbox.h), which a crafted file may crash; its answer is validated again here.
#pragma once
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "train/data/hdf5.h"

namespace smoe {

/// The data sets of an HDF5 file of `file_bytes` bytes, ordered by name. `metadata` holds the
/// file's first bytes, up to the first data set; `path` stands for the file in messages.
/// Throws: UsageError unless every object is a group or a data set, reached by hard links with
/// printable names, and every data set is contiguous, unfiltered, in this file, of a type of
/// Hdf5Dataset, of at most 8 dimensions, between the metadata and the end of the file, and disjoint
/// from the others; also when libhdf5 crashes or times out. SystemError when no process can be
/// started.
std::vector<Hdf5Dataset> parse_hdf5(std::string_view metadata, std::int64_t file_bytes,
                                    const std::string& path);

}  // namespace smoe
