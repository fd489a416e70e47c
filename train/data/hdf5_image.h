// A libhdf5 file driver whose file is a string: the metadata in front of the data sets. Past the
// string, the file exists in size only; a read or write there fails.
#pragma once
#include <hdf5.h>

#include <cstdint>
#include <string>

namespace smoe {

/// An HDF5 identifier, closed by the destructor.
class Hdf5Handle {
 public:
  using Close = herr_t (*)(hid_t);
  /// Throws: UsageError with `what` when `id` is an error code.
  Hdf5Handle(hid_t id, Close close, const std::string& what);
  ~Hdf5Handle();
  Hdf5Handle(Hdf5Handle&& other) noexcept;
  Hdf5Handle(const Hdf5Handle&) = delete;
  Hdf5Handle& operator=(const Hdf5Handle&) = delete;

  operator hid_t() const { return id_; }
  /// Closes now. Throws: UsageError with `what` when that fails, as it may when writing.
  void close(const std::string& what);

 private:
  hid_t id_;
  Close close_;
};

struct Hdf5Image {
  std::string bytes;            ///< the file's front; grows when libhdf5 writes behind its end
  std::int64_t file_bytes = 0;  ///< size of the whole file
};

/// Sets libhdf5 up for use with files that are not trusted: no plugins, no printing, no work at
/// exit. To be called before any other call to it; does its work once.
void initialize_hdf5();

/// The library's type for elements as in Hdf5Dataset; negative when there is none.
hid_t element_type(char kind, int bytes);

/// A file access property list whose files are `image`, which must outlive every such file.
Hdf5Handle image_access(Hdf5Image& image);

}  // namespace smoe
