#include "train/data/hdf5.h"

#include <algorithm>
#include <limits>

#include "core/base/check.h"
#include "train/data/hdf5_image.h"

namespace smoe {
namespace {

// Space kept for metadata in one piece, so that all of it precedes the data sets.
constexpr hsize_t kMetadataBlockBytes = 16 << 10;
constexpr int kMaxDepth = 4;
constexpr std::size_t kMaxDatasets = 4096;

hid_t element_type(const Hdf5Dataset& dataset) {
  const auto choose = [&](hid_t one, hid_t two, hid_t four, hid_t eight) {
    switch (dataset.element_bytes) {
      case 1:
        return one;
      case 2:
        return two;
      case 4:
        return four;
      case 8:
        return eight;
    }
    return hid_t{-1};
  };
  switch (dataset.kind) {
    case 'u':
      return choose(H5T_STD_U8LE, H5T_STD_U16LE, H5T_STD_U32LE, H5T_STD_U64LE);
    case 'i':
      return choose(H5T_STD_I8LE, H5T_STD_I16LE, H5T_STD_I32LE, H5T_STD_I64LE);
    case 'f':
      return choose(-1, -1, H5T_IEEE_F32LE, H5T_IEEE_F64LE);
  }
  return -1;
}

// Creates the groups that the data set is to lie in. Not left to H5Dcreate2, which would note the
// time in each: the same input must give the same bytes.
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

// Creates the data set, its space allocated but not written, and fills in its offset.
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
  Hdf5Handle created(H5Dcreate2(file, dataset.name.c_str(), element_type(dataset), space,
                                H5P_DEFAULT, creation, H5P_DEFAULT),
                     H5Dclose, what);
  dataset.bytes = dataset.element_bytes;
  for (const std::int64_t dim : dataset.shape) dataset.bytes *= dim;
  dataset.offset = dataset.bytes == 0 ? 0 : static_cast<std::int64_t>(H5Dget_offset(created));
  created.close(what);
}

// Reads a file's table. Every message begins with the file's path.
class Parser {
 public:
  Parser(hid_t file, const std::string& path) : file_(file), path_(path) {}

  // Adds the data sets of a group, "" for the root, and of the groups in it.
  void parse_group(const std::string& name, int depth);
  std::vector<Hdf5Dataset> take() { return std::move(datasets_); }

 private:
  std::string cannot_read(const std::string& name) const {
    return concat(path_, ": /", name, ": HDF5 cannot read it");
  }
  void parse_dataset(hid_t object, const std::string& name);
  void parse_type(hid_t object, Hdf5Dataset& dataset) const;
  void parse_shape(hid_t object, Hdf5Dataset& dataset) const;

  hid_t file_;
  const std::string& path_;
  std::vector<Hdf5Dataset> datasets_;
};

struct Link {
  std::string name;
  bool is_hard;
};

herr_t collect_link(hid_t, const char* name, const H5L_info_t* info, void* links) noexcept {
  static_cast<std::vector<Link>*>(links)->push_back({name, info->type == H5L_TYPE_HARD});
  return static_cast<std::vector<Link>*>(links)->size() > kMaxDatasets ? -1 : 0;
}

void Parser::parse_group(const std::string& name, int depth) {
  SMOE_CHECK(depth <= kMaxDepth, path_, ": /", name, ": groups nest deeper than ", kMaxDepth);
  const Hdf5Handle group(H5Gopen2(file_, ("/" + name).c_str(), H5P_DEFAULT), H5Gclose,
                         cannot_read(name));
  std::vector<Link> links;
  SMOE_CHECK(H5Literate(group, H5_INDEX_NAME, H5_ITER_INC, nullptr, collect_link, &links) >= 0,
             cannot_read(name));
  for (const Link& link : links) {
    const std::string inner = name.empty() ? link.name : name + "/" + link.name;
    SMOE_CHECK(link.is_hard, path_, ": /", inner, ": only hard links are accepted");
    const Hdf5Handle object(H5Oopen(group, link.name.c_str(), H5P_DEFAULT), H5Oclose,
                            cannot_read(inner));
    const H5I_type_t kind = H5Iget_type(object);
    SMOE_CHECK(kind == H5I_GROUP || kind == H5I_DATASET, path_, ": /", inner,
               ": neither a group nor a data set");
    if (kind == H5I_GROUP) {
      parse_group(inner, depth + 1);
    } else {
      parse_dataset(object, inner);
    }
  }
}

void Parser::parse_type(hid_t object, Hdf5Dataset& dataset) const {
  const Hdf5Handle type(H5Dget_type(object), H5Tclose, cannot_read(dataset.name));
  const H5T_class_t type_class = H5Tget_class(type);
  dataset.element_bytes = static_cast<int>(std::min<std::size_t>(H5Tget_size(type), 255));
  dataset.kind = type_class == H5T_FLOAT                                          ? 'f'
                 : type_class == H5T_INTEGER && H5Tget_sign(type) == H5T_SGN_NONE ? 'u'
                                                                                  : 'i';
  const hid_t wanted = element_type(dataset);
  SMOE_CHECK(wanted >= 0 && H5Tequal(type, wanted) > 0, path_, ": /", dataset.name,
             ": elements must be little-endian integers or floats of 1, 2, 4 or 8 bytes");
}

void Parser::parse_shape(hid_t object, Hdf5Dataset& dataset) const {
  const Hdf5Handle space(H5Dget_space(object), H5Sclose, cannot_read(dataset.name));
  const int rank = H5Sget_simple_extent_ndims(space);
  SMOE_CHECK(rank >= 0 && rank <= 8 && H5Sget_simple_extent_type(space) != H5S_NULL, path_, ": /",
             dataset.name, ": must have at most 8 dimensions; got ", rank);
  std::vector<hsize_t> dims(rank);
  H5Sget_simple_extent_dims(space, dims.data(), nullptr);
  dataset.bytes = dataset.element_bytes;
  for (const hsize_t dim : dims) {
    constexpr hsize_t kMax = std::numeric_limits<std::int64_t>::max();
    SMOE_CHECK(dim == 0 || static_cast<hsize_t>(dataset.bytes) <= kMax / dim, path_, ": /",
               dataset.name, ": its size overflows 64 bits");
    dataset.shape.push_back(static_cast<std::int64_t>(dim));
    dataset.bytes *= static_cast<std::int64_t>(dim);
  }
}

void Parser::parse_dataset(hid_t object, const std::string& name) {
  SMOE_CHECK(datasets_.size() < kMaxDatasets, path_, ": more than ", kMaxDatasets, " data sets");
  Hdf5Dataset dataset;
  dataset.name = name;
  const Hdf5Handle creation(H5Dget_create_plist(object), H5Pclose, cannot_read(name));
  SMOE_CHECK(H5Pget_layout(creation) == H5D_CONTIGUOUS && H5Pget_nfilters(creation) == 0 &&
                 H5Pget_external_count(creation) == 0,
             path_, ": /", name, ": must be contiguous, unfiltered and inside the file");
  parse_type(object, dataset);
  parse_shape(object, dataset);
  if (dataset.bytes > 0) {
    const haddr_t offset = H5Dget_offset(object);
    SMOE_CHECK(offset != HADDR_UNDEF && offset <= haddr_t{1} << 62, path_, ": /", name,
               ": has no place in the file");
    dataset.offset = static_cast<std::int64_t>(offset);
  }
  datasets_.push_back(std::move(dataset));
}

void check_extents(std::vector<Hdf5Dataset> datasets, std::int64_t begin, std::int64_t end,
                   const std::string& path) {
  std::sort(datasets.begin(), datasets.end(),
            [](const Hdf5Dataset& a, const Hdf5Dataset& b) { return a.offset < b.offset; });
  for (const Hdf5Dataset& dataset : datasets) {
    if (dataset.bytes == 0) continue;
    SMOE_CHECK(dataset.offset >= begin && dataset.bytes <= end - dataset.offset, path, ": /",
               dataset.name, ": lies outside of the file or over other data: ", dataset.bytes,
               " bytes at byte ", dataset.offset);
    begin = dataset.offset + dataset.bytes;
  }
}

}  // namespace

Hdf5Layout layout_hdf5(std::vector<Hdf5Dataset> datasets, std::int64_t user_block_bytes) {
  const std::string what = "hdf5: cannot lay the file out";
  Hdf5Image image;
  Hdf5Handle access = image_access(image);
  const Hdf5Handle creation(H5Pcreate(H5P_FILE_CREATE), H5Pclose, what);
  // The later formats of metadata carry checksums.
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
    SMOE_INTERNAL_CHECK(dataset.offset == end, "hdf5: ", dataset.name, " was laid out at byte ",
                        dataset.offset, " instead of ", end);
    end += dataset.bytes;
  }
  SMOE_INTERNAL_CHECK(static_cast<std::int64_t>(image.bytes.size()) <= begin, "hdf5: metadata of ",
                      image.bytes.size(), " bytes reach into the data at ", begin);
  SMOE_INTERNAL_CHECK(image.file_bytes == end, "hdf5: the file ends at ", image.file_bytes,
                      ", its data at ", end);
  image.bytes.resize(static_cast<std::size_t>(begin));
  return {std::move(image.bytes), std::move(datasets), end};
}

std::vector<Hdf5Dataset> parse_hdf5(std::string_view metadata, std::int64_t file_bytes,
                                    const std::string& path) {
  Hdf5Image image{std::string(metadata), file_bytes};
  const Hdf5Handle access = image_access(image);
  const Hdf5Handle file(H5Fopen("image", H5F_ACC_RDONLY, access), H5Fclose,
                        path + ": its HDF5 metadata cannot be read");
  Parser parser(file, path);
  parser.parse_group("", 0);
  std::vector<Hdf5Dataset> datasets = parser.take();
  check_extents(datasets, static_cast<std::int64_t>(metadata.size()), file_bytes, path);
  return datasets;
}

}  // namespace smoe
