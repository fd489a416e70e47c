// A libhdf5 file driver whose file is a string: the metadata that precedes the data sets. Beyond
// the string the file has a size but no contents; a read or write there fails.
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
  /// Closes now. Throws: UsageError with `what` when closing fails, which is possible after writes.
  void close(const std::string& what);

 private:
  hid_t id_;
  Close close_;
};

struct Hdf5Image {
  std::string bytes;            ///< the first bytes of the file; grows with writes past its end
  std::int64_t file_bytes = 0;  ///< size of the whole file
};

/// Prepares libhdf5 for untrusted files: no plugins, no printing, no atexit handler. Must precede
/// any other call of the library; idempotent.
void initialize_hdf5();

/// The libhdf5 type of elements as in Hdf5Dataset; negative if there is none.
hid_t element_type(char kind, int bytes);

/// A file access property list that opens `image`, which must outlive every file opened with it.
Hdf5Handle image_access(Hdf5Image& image);

}  // namespace smoe
