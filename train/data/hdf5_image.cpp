#include "train/data/hdf5_image.h"

#include <algorithm>
#include <cstring>
#include <new>
#include <utility>

#include "core/base/check.h"

namespace smoe {
namespace {

// Limit of the metadata that libhdf5 may write: far more than a table of data sets needs.
constexpr haddr_t kMaxImageBytes = 16 << 20;

// The state of an open image; libhdf5 requires its own fields first.
struct OpenImage {
  H5FD_t base{};
  Hdf5Image* image = nullptr;
  haddr_t allocated_end = 0;
};

OpenImage& open_image(H5FD_t* file) {
  return *reinterpret_cast<OpenImage*>(file);
}
const OpenImage& open_image(const H5FD_t* file) {
  return *reinterpret_cast<const OpenImage*>(file);
}

// The driver's callbacks. They are called from C, so they must not throw.

H5FD_t* open_callback(const char*, unsigned flags, hid_t access, haddr_t) {
  auto* const* image = static_cast<Hdf5Image* const*>(H5Pget_driver_info(access));
  auto* file = new (std::nothrow) OpenImage;
  if (!image || !file) {
    delete file;
    return nullptr;
  }
  file->image = *image;
  if (flags & H5F_ACC_TRUNC) *file->image = {};
  return &file->base;
}

herr_t close_callback(H5FD_t* file) {
  delete &open_image(file);
  return 0;
}

herr_t query_callback(const H5FD_t*, unsigned long* flags) {
  // Metadata in separate blocks, so that it stays before the data sets.
  *flags = H5FD_FEAT_AGGREGATE_METADATA;
  return 0;
}

haddr_t get_eoa_callback(const H5FD_t* file, H5FD_mem_t) {
  return open_image(file).allocated_end;
}

herr_t set_eoa_callback(H5FD_t* file, H5FD_mem_t, haddr_t end) {
  open_image(file).allocated_end = end;
  return 0;
}

haddr_t get_eof_callback(const H5FD_t* file, H5FD_mem_t) {
  return static_cast<haddr_t>(open_image(file).image->file_bytes);
}

herr_t read_callback(H5FD_t* file, H5FD_mem_t, hid_t, haddr_t address, std::size_t size,
                     void* target) {
  const std::string& bytes = open_image(file).image->bytes;
  if (address > bytes.size() || size > bytes.size() - address) return -1;
  std::memcpy(target, bytes.data() + address, size);
  return 0;
}

herr_t write_callback(H5FD_t* file, H5FD_mem_t, hid_t, haddr_t address, std::size_t size,
                      const void* source) {
  if (address > kMaxImageBytes || size > kMaxImageBytes - address) return -1;
  Hdf5Image& image = *open_image(file).image;
  try {
    image.bytes.resize(std::max(image.bytes.size(), static_cast<std::size_t>(address + size)));
  } catch (const std::bad_alloc&) {
    return -1;
  }
  std::memcpy(image.bytes.data() + address, source, size);
  return 0;
}

herr_t truncate_callback(H5FD_t* file, hid_t, hbool_t) {
  OpenImage& open = open_image(file);
  if (open.base.access_flags & H5F_ACC_RDWR)
    open.image->file_bytes = static_cast<std::int64_t>(open.allocated_end);
  return 0;
}

H5FD_class_t driver_class() {
  H5FD_class_t driver{};
  driver.name = "smoe_image";
  driver.maxaddr = haddr_t{1} << 62;
  driver.fc_degree = H5F_CLOSE_STRONG;
  driver.fapl_size = sizeof(Hdf5Image*);
  driver.open = open_callback;
  driver.close = close_callback;
  driver.query = query_callback;
  driver.get_eoa = get_eoa_callback;
  driver.set_eoa = set_eoa_callback;
  driver.get_eof = get_eof_callback;
  driver.read = read_callback;
  driver.write = write_callback;
  driver.truncate = truncate_callback;
  const H5FD_mem_t one_kind_of_space[] = H5FD_FLMAP_DICHOTOMY;
  std::copy(std::begin(one_kind_of_space), std::end(one_kind_of_space), driver.fl_map);
  return driver;
}

}  // namespace

Hdf5Handle::Hdf5Handle(hid_t id, Close close, const std::string& what) : id_(id), close_(close) {
  SMOE_CHECK(id >= 0, what);
}

Hdf5Handle::~Hdf5Handle() {
  if (id_ >= 0) close_(id_);
}

Hdf5Handle::Hdf5Handle(Hdf5Handle&& other) noexcept
    : id_(std::exchange(other.id_, -1)), close_(other.close_) {}

void Hdf5Handle::close(const std::string& what) {
  SMOE_CHECK(close_(std::exchange(id_, -1)) >= 0, what);
}

void initialize_hdf5() {
  static const bool is_done = [] {
    // Its atexit handler crashes after a failed write; plugins would run code that a file names.
    const bool is_first = H5dont_atexit() >= 0;
    SMOE_INTERNAL_CHECK(is_first && H5open() >= 0,
                        "hdf5: the library was used before initialize_hdf5");
    H5PLset_loading_state(0);
    H5Eset_auto2(H5E_DEFAULT, nullptr, nullptr);
    return true;
  }();
  (void)is_done;
}

hid_t element_type(char kind, int bytes) {
  const auto choose = [&](hid_t one, hid_t two, hid_t four, hid_t eight) {
    switch (bytes) {
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
  switch (kind) {
    case 'u':
      return choose(H5T_STD_U8LE, H5T_STD_U16LE, H5T_STD_U32LE, H5T_STD_U64LE);
    case 'i':
      return choose(H5T_STD_I8LE, H5T_STD_I16LE, H5T_STD_I32LE, H5T_STD_I64LE);
    case 'f':
      return choose(-1, -1, H5T_IEEE_F32LE, H5T_IEEE_F64LE);
  }
  return -1;
}

Hdf5Handle image_access(Hdf5Image& image) {
  initialize_hdf5();
  static const H5FD_class_t driver = driver_class();
  static const hid_t driver_id = H5FDregister(&driver);
  Hdf5Handle access(H5Pcreate(H5P_FILE_ACCESS), H5Pclose, "hdf5: no file access list");
  Hdf5Image* const address = &image;
  SMOE_INTERNAL_CHECK(driver_id >= 0 && H5Pset_driver(access, driver_id, &address) >= 0,
                      "hdf5: the image driver could not be registered");
  return access;
}

}  // namespace smoe
