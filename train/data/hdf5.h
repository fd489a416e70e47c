// Writing of HDF5 files whose data sets are contiguous. libhdf5 only handles the metadata, in
// memory, and never touches a file: layout_hdf5 returns the bytes that precede the data sets, and
// core/system writes the elements at the offsets of the layout. Reading: parse_hdf5.h.
#pragma once
#include <cstdint>
#include <string>
#include <vector>

namespace smoe {

/// One contiguous little-endian data set.
struct Hdf5Dataset {
  std::string name;       ///< full path without the leading slash: "train/tokens"
  char kind = 'u';        ///< 'u' unsigned, 'i' signed integer, 'f' IEEE floating point
  int element_bytes = 1;  ///< 1, 2, 4 or 8
  std::vector<std::int64_t> shape;
  std::int64_t offset = 0;  ///< of the first element in the file; 0 for an empty data set
  std::int64_t bytes = 0;   ///< of all elements
};

struct Hdf5Layout {
  std::string metadata;  ///< the file's bytes before the first data set, the user block zeroed
  std::vector<Hdf5Dataset> datasets;  ///< with offsets; each begins where the previous one ends
  std::int64_t file_bytes = 0;
};

/// Lays out an HDF5 file with these data sets, in this order, after a user block of
/// `user_block_bytes` (0, or 512 times a power of two). The size of the metadata depends only on
/// the names, so the first offset is known before the shapes are. Deterministic.
/// Throws: UsageError for a data set that HDF5 refuses, such as a duplicate name.
Hdf5Layout layout_hdf5(std::vector<Hdf5Dataset> datasets, std::int64_t user_block_bytes);

}  // namespace smoe
