// Decompresses text files in pieces: gzip and zstd, of several members (frames), with zeros after
// the last as tools leave them that copy whole blocks.
#pragma once
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>

namespace smoe {

class Decompressor {
 public:
  /// `path` stands for the file in messages.
  explicit Decompressor(const std::string& path) : path_(path) {}
  virtual ~Decompressor() = default;
  Decompressor(const Decompressor&) = delete;
  Decompressor& operator=(const Decompressor&) = delete;

  /// Removes bytes from the front of `input`, of which byte `end` of the file is the end, and
  /// writes to `output`. Returns how many bytes were written; 0 if it needs more input. Throws:
  /// UsageError for damaged data or other data after it; SystemError.
  std::size_t run(std::string_view& input, std::int64_t end, std::span<char> output);
  /// To be called at the end of the file, byte `end`. Throws: UsageError if it is truncated.
  void finish(std::int64_t end) const;

 protected:
  struct Progress {
    std::size_t read = 0, written = 0;
    bool is_member_complete = false;
    std::string trouble{};  ///< why the data is damaged; empty if it is not
  };
  virtual const char* format() const = 0;
  virtual void begin_member() = 0;
  virtual bool may_begin_member(char first) const = 0;
  virtual Progress decompress(std::string_view input, std::span<char> output) = 0;

 private:
  std::string path_;
  bool is_between_members_ = true;
  bool has_members_ = false;
};

/// The decompressor for a file, by the name of it or the bytes that it begins with; nullptr if it
/// is not compressed.
std::unique_ptr<Decompressor> make_decompressor(const std::string& path,
                                                std::string_view beginning);

/// `path` without a final ".gz" or ".zst", in any case.
std::string_view without_compression(std::string_view path);

}  // namespace smoe
