// The metadata of HDF5 files, which libhdf5 parses in a sandboxed subprocess.
#include <algorithm>

#include "tests/fuzz/hdf5_files.h"
#include "tests/fuzz/target.h"
#include "train/data/parse_hdf5.h"

namespace smoe::fuzz {
namespace {

constexpr std::int64_t kDataBytes = std::int64_t{1} << 16;  // of the file after its metadata

void read(const std::string& input) {
  const auto begin = static_cast<std::int64_t>(input.size());
  std::vector<Hdf5Dataset> table = parse_hdf5(input, begin + kDataBytes, "a.h5");
  std::sort(table.begin(), table.end(),
            [](const auto& a, const auto& b) { return a.offset < b.offset; });
  std::int64_t end = begin;
  for (const Hdf5Dataset& dataset : table) {
    require(!dataset.name.empty() && dataset.shape.size() <= 8, "invalid entry");
    std::int64_t bytes = dataset.element_bytes;
    for (const std::int64_t size : dataset.shape) bytes *= size;
    require(bytes == dataset.bytes && bytes >= 0, dataset.name, ": wrong size");
    if (bytes == 0) continue;
    require(dataset.offset >= end, dataset.name, ": overlaps other data");
    end = dataset.offset + bytes;
  }
  require(end <= begin + kDataBytes, "exceeds the file");
}

}  // namespace

Target hdf5_target(const Playground& playground) {
  Target target;
  target.seeds = crafted_hdf5_files(playground.canary);
  for (const std::int64_t user_block : {0, 512})
    target.seeds.push_back(
        layout_hdf5({{.name = "g/tokens", .element_bytes = 2, .shape = {100}},
                     {.name = "x", .kind = 'f', .element_bytes = 8, .shape = {4, 5}},
                     {.name = "empty", .kind = 'i', .shape = {0}}},
                    user_block)
            .metadata);
  target.dictionary = {"\x89HDF\r\n\x1a\n",
                       "OHDR",
                       "OCHK",
                       "TREE",
                       "SNOD",
                       "HEAP",
                       "FRHP",
                       "FHDB",
                       "BTHD",
                       "BTLF",
                       "GCOL",
                       "FSHD",
                       std::string(8, '\xff'),
                       playground.canary};
  target.read = read;
  target.is_binary = true;
  return target;
}

}  // namespace smoe::fuzz
