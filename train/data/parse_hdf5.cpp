// The subprocess answers with the table as JSON,
//   [{"name", "kind", "element_bytes", "shape", "offset"}, ...]
// which the calling process validates before use.
#include "train/data/parse_hdf5.h"

#include <algorithm>
#include <cstring>
#include <nlohmann/json.hpp>

#include "core/base/check.h"
#include "core/system/json_reader.h"
#include "core/system/sandbox.h"
#include "core/system/text.h"
#include "train/data/hdf5_image.h"

namespace smoe {
namespace {

using Json = nlohmann::json;

constexpr int kMaxDepth = 4;
constexpr std::size_t kMaxObjects = 4096;
constexpr std::size_t kMaxNameBytes = 256;
constexpr int kMaxRank = 8;
constexpr std::int64_t kMaxOffset = std::int64_t{1} << 62;

bool is_dataset_name(std::string_view name) {
  return !name.empty() && name.size() <= kMaxNameBytes &&
         std::all_of(name.begin(), name.end(), [](char c) { return c > 0x20 && c < 0x7f; });
}

// Mirrors element_type: the calling process never uses libhdf5.
bool is_element_type(char kind, int bytes) {
  const bool is_size = bytes == 1 || bytes == 2 || bytes == 4 || bytes == 8;
  return is_size && (kind == 'u' || kind == 'i' || (kind == 'f' && bytes >= 4));
}

// --- In the sandboxed subprocess ---

std::string cannot_read(const std::string& name) {
  return concat("/", name, ": HDF5 cannot read it");
}

// Collects a file's table.
class Collector {
 public:
  explicit Collector(hid_t file) : file_(file) {}

  // Adds the data sets of a group ("" is the root) and, recursively, of its subgroups.
  void add_group(const std::string& name, int depth);
  Json take() { return std::move(table_); }

 private:
  void add_dataset(hid_t object, const std::string& name);

  hid_t file_;
  std::size_t num_objects_ = 0;
  Json table_ = Json::array();
};

struct Link {
  std::string name;
  bool is_hard;
};

herr_t collect_link(hid_t, const char* name, const H5L_info_t* info, void* links) noexcept {
  static_cast<std::vector<Link>*>(links)->push_back({name, info->type == H5L_TYPE_HARD});
  return static_cast<std::vector<Link>*>(links)->size() > kMaxObjects ? -1 : 0;
}

void Collector::add_group(const std::string& name, int depth) {
  SMOE_CHECK(depth <= kMaxDepth, "/", name, ": groups nest deeper than ", kMaxDepth);
  const Hdf5Handle group(H5Gopen2(file_, ("/" + name).c_str(), H5P_DEFAULT), H5Gclose,
                         cannot_read(name));
  std::vector<Link> links;
  SMOE_CHECK(H5Literate(group, H5_INDEX_NAME, H5_ITER_INC, nullptr, collect_link, &links) >= 0,
             cannot_read(name));
  for (const Link& link : links) {
    // Cyclic groups can have many more names than objects.
    SMOE_CHECK(++num_objects_ <= kMaxObjects, "more than ", kMaxObjects, " objects");
    const std::string inner = name.empty() ? link.name : name + "/" + link.name;
    SMOE_CHECK(is_dataset_name(inner), "names must be 1 to ", kMaxNameBytes,
               " printable characters; got ", printable(inner));
    SMOE_CHECK(link.is_hard, "/", inner, ": only hard links are accepted");
    const Hdf5Handle object(H5Oopen(group, link.name.c_str(), H5P_DEFAULT), H5Oclose,
                            cannot_read(inner));
    const H5I_type_t kind = H5Iget_type(object);
    SMOE_CHECK(kind == H5I_GROUP || kind == H5I_DATASET, "/", inner,
               ": must be a group or a data set");
    if (kind == H5I_GROUP) {
      add_group(inner, depth + 1);
    } else {
      add_dataset(object, inner);
    }
  }
}

void put_type(hid_t object, const std::string& name, Json& entry) {
  const Hdf5Handle type(H5Dget_type(object), H5Tclose, cannot_read(name));
  const H5T_class_t type_class = H5Tget_class(type);
  const int bytes = static_cast<int>(std::min<std::size_t>(H5Tget_size(type), 255));
  const char kind = type_class == H5T_FLOAT                                          ? 'f'
                    : type_class == H5T_INTEGER && H5Tget_sign(type) == H5T_SGN_NONE ? 'u'
                                                                                     : 'i';
  const hid_t wanted = element_type(kind, bytes);
  SMOE_CHECK(wanted >= 0 && H5Tequal(type, wanted) > 0, "/", name,
             ": elements must be little-endian integers or floats of 1, 2, 4 or 8 bytes");
  entry["kind"] = std::string(1, kind);
  entry["element_bytes"] = bytes;
}

void put_shape(hid_t object, const std::string& name, Json& entry) {
  const Hdf5Handle space(H5Dget_space(object), H5Sclose, cannot_read(name));
  const int rank = H5Sget_simple_extent_ndims(space);
  SMOE_CHECK(rank >= 0 && rank <= kMaxRank && H5Sget_simple_extent_type(space) != H5S_NULL, "/",
             name, ": must have at most ", kMaxRank, " dimensions; got ", rank);
  hsize_t sizes[kMaxRank];
  SMOE_CHECK(H5Sget_simple_extent_dims(space, sizes, nullptr) == rank, cannot_read(name));
  entry["shape"] = std::vector<hsize_t>(sizes, sizes + rank);
}

void Collector::add_dataset(hid_t object, const std::string& name) {
  Json entry = {{"name", name}};
  const Hdf5Handle creation(H5Dget_create_plist(object), H5Pclose, cannot_read(name));
  SMOE_CHECK(H5Pget_layout(creation) == H5D_CONTIGUOUS && H5Pget_nfilters(creation) == 0 &&
                 H5Pget_external_count(creation) == 0,
             "/", name, ": must be contiguous, unfiltered and inside the file");
  put_type(object, name, entry);
  put_shape(object, name, entry);
  const haddr_t offset = H5Dget_offset(object);  // undefined when nothing is allocated
  entry["offset"] = offset == HADDR_UNDEF ? 0 : offset;
  table_.push_back(std::move(entry));
}

// Returns the table of a file as JSON. `input`: the file's size, then its metadata.
std::string answer_table(std::string_view input) {
  Hdf5Image image;
  SMOE_CHECK(input.size() >= sizeof image.file_bytes, "the file size is missing");
  std::memcpy(&image.file_bytes, input.data(), sizeof image.file_bytes);
  image.bytes = input.substr(sizeof image.file_bytes);
  const Hdf5Handle access = image_access(image);
  const Hdf5Handle file(H5Fopen("image", H5F_ACC_RDONLY, access), H5Fclose,
                        "HDF5 metadata cannot be read");
  Collector collector(file);
  collector.add_group("", 0);
  return collector.take().dump();
}

const SandboxedTask kReadTable("hdf5-table", answer_table);

// --- In the calling process ---

Hdf5Dataset checked_dataset(const Json& entry, const std::string& path) {
  ObjectReader reader(entry, path);
  Hdf5Dataset dataset;
  dataset.name = reader.string("name");
  SMOE_CHECK(is_dataset_name(dataset.name), path, ": names must be printable; got ",
             printable(dataset.name));
  const std::string place = path + ": /" + dataset.name;
  const std::string& kind = reader.string("kind");
  dataset.kind = kind.empty() ? '?' : kind.front();
  dataset.element_bytes = static_cast<int>(reader.integer("element_bytes", 1, 8));
  SMOE_CHECK(kind.size() == 1 && is_element_type(dataset.kind, dataset.element_bytes), place,
             ": unknown element type: ", printable(kind), dataset.element_bytes);
  const Json& sizes = reader.array("shape");
  SMOE_CHECK(sizes.size() <= kMaxRank, place, ": must have at most ", kMaxRank, " dimensions; got ",
             sizes.size());
  std::int64_t bytes = dataset.element_bytes;  // positive even after a dimension of 0
  for (const Json& value : sizes) {
    dataset.shape.push_back(checked_integer(value, place, 0, kMaxInt64));
    const bool overflows =
        __builtin_mul_overflow(bytes, std::max<std::int64_t>(dataset.shape.back(), 1), &bytes);
    SMOE_CHECK(!overflows, place, ": size overflows 64 bits");
  }
  const bool is_empty = std::count(dataset.shape.begin(), dataset.shape.end(), 0) > 0;
  dataset.bytes = is_empty ? 0 : bytes;
  const std::int64_t offset = reader.integer("offset", 0, kMaxOffset);
  SMOE_CHECK(is_empty || offset > 0, place, ": must have an offset in the file");
  dataset.offset = is_empty ? 0 : offset;
  reader.finish();
  return dataset;
}

void check_extents(std::vector<Hdf5Dataset> datasets, std::int64_t begin, std::int64_t end,
                   const std::string& path) {
  std::sort(datasets.begin(), datasets.end(),
            [](const Hdf5Dataset& a, const Hdf5Dataset& b) { return a.offset < b.offset; });
  for (const Hdf5Dataset& dataset : datasets) {
    if (dataset.bytes == 0) continue;
    SMOE_CHECK(dataset.offset >= begin && dataset.bytes <= end - dataset.offset, path, ": /",
               dataset.name, ": must lie inside the file and overlap nothing; got ", dataset.bytes,
               " bytes at byte ", dataset.offset);
    begin = dataset.offset + dataset.bytes;
  }
}

}  // namespace

std::vector<Hdf5Dataset> parse_hdf5(std::string_view metadata, std::int64_t file_bytes,
                                    const std::string& path) {
  std::string input(reinterpret_cast<const char*>(&file_bytes), sizeof file_bytes);
  input += metadata;
  const Json table = parse_json(kReadTable.run(input, path), path, 3);
  SMOE_CHECK(table.is_array() && table.size() <= kMaxObjects, path, ": must be a table of at most ",
             kMaxObjects, " data sets");
  std::vector<Hdf5Dataset> datasets;
  for (const Json& entry : table) datasets.push_back(checked_dataset(entry, path));
  check_extents(datasets, static_cast<std::int64_t>(metadata.size()), file_bytes, path);
  return datasets;
}

}  // namespace smoe
