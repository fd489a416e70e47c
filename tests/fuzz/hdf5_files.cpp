#include "tests/fuzz/hdf5_files.h"

#include <functional>

#include "tests/fuzz/target.h"
#include "train/data/hdf5_image.h"

namespace smoe::fuzz {
namespace {

using Fill = std::function<void(hid_t file)>;

// The bytes of a file with the contents that `fill` writes. `low`: the oldest format to use.
std::string library_file(H5F_libver_t low, const Fill& fill) {
  initialize_hdf5();
  const Hdf5Handle access(H5Pcreate(H5P_FILE_ACCESS), H5Pclose, "access");
  H5Pset_fapl_core(access, 1 << 12, false);
  H5Pset_libver_bounds(access, low, H5F_LIBVER_LATEST);
  const Hdf5Handle file(H5Fcreate("in memory", H5F_ACC_TRUNC, H5P_DEFAULT, access), H5Fclose,
                        "file");
  fill(file);
  H5Fflush(file, H5F_SCOPE_GLOBAL);
  std::string bytes(static_cast<std::size_t>(H5Fget_file_image(file, nullptr, 0)), '\0');
  require(H5Fget_file_image(file, bytes.data(), bytes.size()) > 0, "no image");
  return bytes;
}

struct DatasetOptions {
  hid_t type = H5T_STD_U16LE;
  std::vector<hsize_t> sizes = {2};
  std::function<void(hid_t creation)> creation = [](hid_t) {};
};

void make_dataset(hid_t file, const char* name, const DatasetOptions& options) {
  const Hdf5Handle space(
      H5Screate_simple(static_cast<int>(options.sizes.size()), options.sizes.data(), nullptr),
      H5Sclose, "space");
  const Hdf5Handle creation(H5Pcreate(H5P_DATASET_CREATE), H5Pclose, "creation");
  const Hdf5Handle links(H5Pcreate(H5P_LINK_CREATE), H5Pclose, "links");
  H5Pset_create_intermediate_group(links, 1);
  options.creation(creation);
  const Hdf5Handle dataset(
      H5Dcreate2(file, name, options.type, space, links, creation, H5P_DEFAULT), H5Dclose,
      concat("data set ", name));
}

void allocate_early(hid_t creation) {
  H5Pset_alloc_time(creation, H5D_ALLOC_TIME_EARLY);
}

void make_attribute(hid_t file) {
  const Hdf5Handle space(H5Screate(H5S_SCALAR), H5Sclose, "space");
  const Hdf5Handle type(H5Tcopy(H5T_C_S1), H5Tclose, "type");
  H5Tset_size(type, H5T_VARIABLE);
  const Hdf5Handle attribute(H5Acreate2(file, "note", type, space, H5P_DEFAULT, H5P_DEFAULT),
                             H5Aclose, "attribute");
  const char* text = "some text in the global heap";
  H5Awrite(attribute, type, &text);
}

void make_virtual(hid_t file, const std::string& source) {
  const hsize_t size = 2;
  const Hdf5Handle space(H5Screate_simple(1, &size, nullptr), H5Sclose, "space");
  make_dataset(file, "virtual", {.creation = [&](hid_t creation) {
                 H5Pset_virtual(creation, space, source.c_str(), "/x", space);
               }});
}

void commit_type(hid_t file) {
  const Hdf5Handle type(H5Tcreate(H5T_COMPOUND, 16), H5Tclose, "type");
  H5Tinsert(type, "a", 0, H5T_STD_I64LE);
  H5Tinsert(type, "b", 8, H5T_IEEE_F64LE);
  H5Tcommit2(file, "type", type, H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT);
  make_dataset(file, "compound", {.type = type, .creation = allocate_early});
}

}  // namespace

std::vector<std::string> crafted_hdf5_files(const std::string& canary) {
  const auto filtered = [](hid_t creation) {
    const hsize_t chunk = 2;
    H5Pset_chunk(creation, 1, &chunk);
    H5Pset_filter(creation, 32004, H5Z_FLAG_OPTIONAL, 0, nullptr);  // the id of a plugin
    H5Pset_shuffle(creation);
  };
  const std::vector<Fill> fills = {
      [](hid_t file) {
        make_dataset(file, "x", {.creation = allocate_early});
        make_dataset(file, "g/h/y",
                     {.type = H5T_IEEE_F64LE, .sizes = {3, 1, 7}, .creation = allocate_early});
        make_dataset(file, "g/z", {.type = H5T_STD_I8LE, .sizes = {0, 5}});
        make_attribute(file);
      },
      [&](hid_t file) {
        H5Lcreate_external(canary.c_str(), "/x", file, "external", H5P_DEFAULT, H5P_DEFAULT);
        H5Lcreate_soft(canary.c_str(), file, "soft", H5P_DEFAULT, H5P_DEFAULT);
      },
      [&](hid_t file) {
        make_dataset(file, "stored", {.creation = [&](hid_t creation) {
                       H5Pset_external(creation, canary.c_str(), 0, H5F_UNLIMITED);
                     }});
      },
      [&](hid_t file) { make_virtual(file, canary); },
      [&](hid_t file) { make_dataset(file, "filtered", {.creation = filtered}); },
      [](hid_t file) {
        make_dataset(file, "huge", {.type = H5T_STD_U64LE, .sizes = {hsize_t{1} << 40, 1 << 20}});
        make_dataset(file, "deep",
                     {.sizes = std::vector<hsize_t>(32, 1), .creation = allocate_early});
      },
      [](hid_t file) {
        make_dataset(file, "g/h/x", {.creation = allocate_early});
        H5Lcreate_hard(file, "/", file, "g/root", H5P_DEFAULT, H5P_DEFAULT);
        H5Lcreate_hard(file, "/g/h", file, "g/h/self", H5P_DEFAULT, H5P_DEFAULT);
        H5Lcreate_hard(file, "/g/h/x", file, "twin", H5P_DEFAULT, H5P_DEFAULT);
      },
      commit_type,
      [](hid_t file) {  // enough links for a heap and a B-tree
        for (int i = 0; i < 40; ++i)
          make_dataset(file, concat("many/", i).c_str(), {.creation = allocate_early});
      },
      [](hid_t file) {
        const Hdf5Handle type(H5Tvlen_create(H5T_STD_U8LE), H5Tclose, "type");
        make_dataset(file, "variable", {.type = type});
        make_dataset(file, "big", {.type = H5T_STD_U32BE, .creation = allocate_early});
        make_dataset(file, "compact",
                     {.creation = [](hid_t creation) { H5Pset_layout(creation, H5D_COMPACT); }});
      },
  };
  std::vector<std::string> files;
  for (const H5F_libver_t low : {H5F_LIBVER_EARLIEST, H5F_LIBVER_LATEST})
    for (const Fill& fill : fills) files.push_back(library_file(low, fill));
  return files;
}

}  // namespace smoe::fuzz
