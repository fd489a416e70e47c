#include "train/data/hdf5.h"

#include <algorithm>

#include "core/base/check.h"
#include "train/data/hdf5_image.h"

namespace smoe {
namespace {

// Metadata is allocated in one block of this size, so that all of it precedes the data sets.
constexpr hsize_t kMetadataBlockBytes = 16 << 10;

// Creates the parent groups of a data set. H5Dcreate2 would store the time in each of them, but the
// same input must give the same bytes.
void create_groups(hid_t file, const std::string& name, const std::string& what) {
  const Hdf5Handle creation(H5Pcreate(H5P_GROUP_CREATE), H5Pclose, what);
  SMOE_CHECK(H5Pset_obj_track_times(creation, false) >= 0, what);
  for (std::size_t end = name.find('/', 1); end != std::string::npos;
       end = name.find('/', end + 1)) {
    const std::string group = name.substr(0, end);
    if (H5Lexists(file, group.c_str(), H5P_DEFAULT) > 0) continue;
    Hdf5Handle(H5Gcreate2(file, group.c_str(), H5P_DEFAULT, creation, H5P_DEFAULT), H5Gclose, what)
        .close(what);
  }
}

// Creates the data set, allocates its space without writing it, and sets its offset.
void create_dataset(hid_t file, Hdf5Dataset& dataset) {
  const std::string what = "hdf5: cannot create data set " + dataset.name;
  const std::vector<hsize_t> dims(dataset.shape.begin(), dataset.shape.end());
  const Hdf5Handle space(H5Screate_simple(static_cast<int>(dims.size()), dims.data(), nullptr),
                         H5Sclose, what);
  const Hdf5Handle creation(H5Pcreate(H5P_DATASET_CREATE), H5Pclose, what);
  SMOE_CHECK(H5Pset_layout(creation, H5D_CONTIGUOUS) >= 0 &&
                 H5Pset_alloc_time(creation, H5D_ALLOC_TIME_EARLY) >= 0 &&
                 H5Pset_fill_time(creation, H5D_FILL_TIME_NEVER) >= 0 &&
                 H5Pset_obj_track_times(creation, false) >= 0,
             what);
  create_groups(file, dataset.name, what);
  Hdf5Handle created(
      H5Dcreate2(file, dataset.name.c_str(), element_type(dataset.kind, dataset.element_bytes),
                 space, H5P_DEFAULT, creation, H5P_DEFAULT),
      H5Dclose, what);
  dataset.bytes = dataset.element_bytes;
  for (const std::int64_t dim : dataset.shape) dataset.bytes *= dim;
  dataset.offset = dataset.bytes == 0 ? 0 : static_cast<std::int64_t>(H5Dget_offset(created));
  created.close(what);
}

}  // namespace

Hdf5Layout layout_hdf5(std::vector<Hdf5Dataset> datasets, std::int64_t user_block_bytes) {
  const std::string what = "hdf5: cannot create the layout";
  Hdf5Image image;
  Hdf5Handle access = image_access(image);
  const Hdf5Handle creation(H5Pcreate(H5P_FILE_CREATE), H5Pclose, what);
  // Newer metadata formats have checksums.
  SMOE_CHECK(H5Pset_libver_bounds(access, H5F_LIBVER_V110, H5F_LIBVER_V110) >= 0 &&
                 H5Pset_meta_block_size(access, kMetadataBlockBytes) >= 0 &&
                 H5Pset_small_data_block_size(access, 0) >= 0 &&
                 H5Pset_obj_track_times(creation, false) >= 0 &&
                 H5Pset_userblock(creation, static_cast<hsize_t>(user_block_bytes)) >= 0,
             what);
  Hdf5Handle file(H5Fcreate("image", H5F_ACC_TRUNC, creation, access), H5Fclose, what);
  for (Hdf5Dataset& dataset : datasets) create_dataset(file, dataset);
  file.close(what);

  std::int64_t begin = 0;
  std::int64_t end = 0;
  for (const Hdf5Dataset& dataset : datasets) {
    if (dataset.bytes == 0) continue;
    if (begin == 0) begin = end = dataset.offset;
    SMOE_INTERNAL_CHECK(dataset.offset == end, "hdf5: ", dataset.name, " begins at byte ",
                        dataset.offset, " instead of ", end);
    end += dataset.bytes;
  }
  SMOE_INTERNAL_CHECK(static_cast<std::int64_t>(image.bytes.size()) <= begin, "hdf5: metadata of ",
                      image.bytes.size(), " bytes overlap the data at ", begin);
  SMOE_INTERNAL_CHECK(image.file_bytes == end, "hdf5: the file ends at byte ", image.file_bytes,
                      ", its data at ", end);
  image.bytes.resize(static_cast<std::size_t>(begin));
  return {std::move(image.bytes), std::move(datasets), end};
}

}  // namespace smoe
