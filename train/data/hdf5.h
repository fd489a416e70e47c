// HDF5 for files whose data sets lie in one piece each: libhdf5 handles the metadata in memory and
// never touches a file. Writing: it lays the data sets out and gives the bytes that go in front of
// them. Reading: in a process of its own (core/system/sandbox.h), which a crafted file may crash,
// it turns those bytes into a table of the data sets, which is checked before anyone uses it. The
// elements themselves are written and read by core/io at the offsets of the table.
#pragma once
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace smoe {

/// One contiguous little-endian data set.
struct Hdf5Dataset {
  std::string name;       ///< full, without the first slash: "train/tokens"
  char kind = 'u';        ///< 'u' unsigned, 'i' signed integer, 'f' IEEE floating point
  int element_bytes = 1;  ///< 1, 2, 4 or 8
  std::vector<std::int64_t> shape;
  std::int64_t offset = 0;  ///< of the first element in the file; 0 for an empty data set
  std::int64_t bytes = 0;   ///< of all elements
};

struct Hdf5Layout {
  std::string metadata;  ///< the file's bytes before the first data set, the user block zeroed
  std::vector<Hdf5Dataset> datasets;  ///< with their offsets, each right behind the one before
  std::int64_t file_bytes = 0;
};

/// Lays out an HDF5 file with these data sets in this order behind a user block of
/// `user_block_bytes` (0, or 512 times a power of two). The size of the metadata depends on the
/// names alone, so the first offset is known before the shapes are. The result is the same on every
/// run. Throws: UsageError for a data set that HDF5 refuses, e.g. of a name used twice.
Hdf5Layout layout_hdf5(std::vector<Hdf5Dataset> datasets, std::int64_t user_block_bytes);

/// The data sets of an HDF5 file of `file_bytes` bytes, of which `metadata` are the first, in order
/// of their names. `path` stands for the file in messages.
/// Throws: UsageError unless every object is a group or a data set under hard links with a
/// printable name, every data set contiguous, unfiltered, in this file, of one of the types above
/// and at most 8 dimensions, lies between the metadata and the file's end and overlaps no other;
/// also when libhdf5 crashes on the metadata or takes too long. SystemError when no process can be
/// started.
std::vector<Hdf5Dataset> parse_hdf5(std::string_view metadata, std::int64_t file_bytes,
                                    const std::string& path);

}  // namespace smoe
