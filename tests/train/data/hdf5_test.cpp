#include "train/data/hdf5.h"

#include <doctest/doctest.h>
#include <hdf5.h>

#include <algorithm>
#include <functional>

#include "tests/support/temporary_folder.h"
#include "tests/support/text.h"
#include "train/data/hdf5_image.h"
#include "train/data/parse_hdf5.h"

using namespace smoe;
using namespace smoe::test;

namespace {

// A file written by libhdf5, with the contents that `fill` adds.
std::string library_file(const std::string& path, const std::function<void(hid_t)>& fill) {
  initialize_hdf5();
  const hid_t file = H5Fcreate(path.c_str(), H5F_ACC_TRUNC, H5P_DEFAULT, H5P_DEFAULT);
  REQUIRE(file >= 0);
  fill(file);
  REQUIRE(H5Fclose(file) >= 0);
  return read_file(path, 1 << 20);
}

struct DatasetOptions {
  hid_t type = H5T_STD_U16LE;
  bool is_chunked = false;
  const char* external = nullptr;
  int rank = 1;
};

void make_dataset(hid_t file, const char* name, const DatasetOptions& options) {
  const std::vector<hsize_t> dims(static_cast<std::size_t>(options.rank), 2);
  const hid_t space = H5Screate_simple(options.rank, dims.data(), nullptr);
  const hid_t creation = H5Pcreate(H5P_DATASET_CREATE);
  if (options.is_chunked) H5Pset_chunk(creation, options.rank, dims.data());
  if (options.external) H5Pset_external(creation, options.external, 0, H5F_UNLIMITED);
  H5Pset_alloc_time(creation, H5D_ALLOC_TIME_EARLY);
  const hid_t dataset =
      H5Dcreate2(file, name, options.type, space, H5P_DEFAULT, creation, H5P_DEFAULT);
  CHECK(dataset >= 0);
  H5Dclose(dataset);
  H5Pclose(creation);
  H5Sclose(space);
}

}  // namespace

TEST_CASE("a layout is packed, deterministic and parseable") {
  const std::vector<Hdf5Dataset> datasets = {
      {.name = "group/a", .kind = 'u', .element_bytes = 2, .shape = {5}},
      {.name = "b", .kind = 'f', .element_bytes = 8, .shape = {3, 1, 7}},
      {.name = "group/empty", .kind = 'i', .element_bytes = 4, .shape = {0, 4}},
      {.name = "huge", .kind = 'i', .element_bytes = 8, .shape = {std::int64_t{1} << 40}},
      {.name = "after", .kind = 'f', .element_bytes = 4, .shape = {1}},
  };
  for (const std::int64_t user_block : {0, 512, 2048}) {
    const Hdf5Layout layout = layout_hdf5(datasets, user_block);
    CHECK(layout.metadata == layout_hdf5(datasets, user_block).metadata);
    const auto begin = static_cast<std::int64_t>(layout.metadata.size());
    CHECK(layout.datasets[0].offset == begin);
    CHECK(layout.datasets[1].offset == begin + 10);
    CHECK(layout.datasets[2].offset == 0);
    CHECK(layout.datasets[3].offset == begin + 10 + 168);
    CHECK(layout.file_bytes == begin + 10 + 168 + (std::int64_t{8} << 40) + 4);
    const auto found = parse_hdf5(layout.metadata, layout.file_bytes, "x");
    REQUIRE(found.size() == datasets.size());
    for (const Hdf5Dataset& dataset : layout.datasets) {
      const auto it = std::find_if(found.begin(), found.end(),
                                   [&](const auto& other) { return other.name == dataset.name; });
      REQUIRE(it != found.end());
      CHECK((it->kind == dataset.kind && it->element_bytes == dataset.element_bytes));
      CHECK((it->shape == dataset.shape && it->bytes == dataset.bytes));
      CHECK(it->offset == dataset.offset);
    }
    CHECK_THROWS_AS(parse_hdf5(layout.metadata, layout.file_bytes - 1, "x"), UsageError);
  }
  CHECK_THROWS_AS(layout_hdf5({datasets[0], datasets[0]}, 0), UsageError);
  CHECK_THROWS_AS(layout_hdf5({{.name = "x", .kind = 'f', .element_bytes = 2, .shape = {1}}}, 0),
                  UsageError);
}

TEST_CASE("libhdf5 opens and reads the complete file") {
  const TemporaryFolder folder;
  const Hdf5Layout layout =
      layout_hdf5({{.name = "g/x", .kind = 'u', .element_bytes = 2, .shape = {3}}}, 512);
  File file = File::create(folder / "a.h5");
  file.write_at(0, layout.metadata.data(), static_cast<std::int64_t>(layout.metadata.size()));
  const std::uint16_t values[] = {1, 500, 65535};
  file.write_at(layout.datasets[0].offset, values, 6);
  file.close();
  const Hdf5Handle opened(H5Fopen((folder / "a.h5").c_str(), H5F_ACC_RDONLY, H5P_DEFAULT), H5Fclose,
                          "open");
  const Hdf5Handle dataset(H5Dopen2(opened, "/g/x", H5P_DEFAULT), H5Dclose, "dataset");
  int read[3] = {};
  CHECK(H5Dread(dataset, H5T_NATIVE_INT, H5S_ALL, H5S_ALL, H5P_DEFAULT, read) >= 0);
  CHECK((read[0] == 1 && read[1] == 500 && read[2] == 65535));
}

TEST_CASE("unsupported objects are refused by name") {
  const TemporaryFolder folder;
  const auto message_for = [&](const std::function<void(hid_t)>& fill) {
    const std::string bytes = library_file(folder / "a.h5", fill);
    // The data of these small files lie among the metadata, so only rules that precede the check of
    // extents are tested here.
    return message_of([&] { parse_hdf5(bytes, static_cast<std::int64_t>(bytes.size()), "a.h5"); });
  };
  const auto with = [&](const DatasetOptions& options) {
    return message_for([&](hid_t file) { make_dataset(file, "x", options); });
  };
  CHECK(contains(with({}), "must lie inside the file"));
  CHECK(contains(with({.is_chunked = true}), "a.h5: /x: must be contiguous"));
  CHECK(contains(with({.external = "/etc/passwd"}), "inside the file"));
  CHECK(contains(with({.type = H5T_STD_U16BE}), "little-endian"));
  CHECK(contains(with({.type = H5T_C_S1}), "little-endian"));
  CHECK(contains(with({.rank = 9}), "at most 8 dimensions; got 9"));
  CHECK(contains(message_for([](hid_t file) {
                   H5Lcreate_soft("/elsewhere", file, "s", H5P_DEFAULT, H5P_DEFAULT);
                 }),
                 "a.h5: /s: only hard links"));
  CHECK(contains(message_for([](hid_t file) {
                   H5Lcreate_external("other.h5", "/x", file, "e", H5P_DEFAULT, H5P_DEFAULT);
                 }),
                 "a.h5: /e: only hard links"));
  CHECK(contains(message_for([](hid_t file) {
                   H5Lcreate_hard(file, "/", file, "loop", H5P_DEFAULT, H5P_DEFAULT);
                 }),
                 "nest deeper"));
  CHECK(contains(message_for([](hid_t file) {
                   const hid_t type = H5Tcopy(H5T_NATIVE_INT);
                   H5Tcommit2(file, "t", type, H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT);
                   H5Tclose(type);
                 }),
                 "must be a group or a data set"));
  CHECK(contains(message_of([] { parse_hdf5("no HDF5 at all", 100, "a.h5"); }),
                 "a.h5: HDF5 metadata cannot be read"));
}

TEST_CASE("a file that crashes libhdf5 is refused") {
  const TemporaryFolder folder;
  std::string bytes = library_file(folder / "a.h5", [](hid_t file) {
    const hsize_t size = 2;
    const hid_t space = H5Screate_simple(1, &size, nullptr);
    const hid_t creation = H5Pcreate(H5P_DATASET_CREATE);
    H5Pset_virtual(creation, space, "another.h5", "/x", space);
    H5Dclose(H5Dcreate2(file, "x", H5T_STD_U16LE, space, H5P_DEFAULT, creation, H5P_DEFAULT));
    H5Pclose(creation);
    H5Sclose(space);
  });
  const auto message = [&] {
    return message_of([&] { parse_hdf5(bytes, static_cast<std::int64_t>(bytes.size()), "a.h5"); });
  };
  CHECK(contains(message(), "a.h5: /x: must be contiguous"));
  // The size of the heap object that holds the name: version 1.10.8 reads up to it.
  const std::size_t name = bytes.find("another.h5");
  REQUIRE(name != std::string::npos);
  bytes[name - 17 + 2] = '@';
  CHECK(message().starts_with("a.h5: "));
  CHECK(!contains(message(), "\n"));
}

TEST_CASE("overlapping data sets are refused") {
  const TemporaryFolder folder;
  std::string bytes = library_file(folder / "a.h5", [](hid_t file) {
    make_dataset(file, "x", {});
    H5Lcreate_hard(file, "x", file, "y", H5P_DEFAULT, H5P_DEFAULT);
  });
  // The metadata end before the data, so only the rule on extents is violated.
  CHECK(contains(
      message_of([&] { parse_hdf5(bytes, static_cast<std::int64_t>(bytes.size()), "a.h5"); }),
      "must lie inside the file and overlap nothing"));
}
