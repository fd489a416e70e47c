#include "train/data/decompressor.h"

#include <zlib.h>
#include <zstd.h>

#include <algorithm>

#include "core/base/check.h"

namespace smoe {
namespace {

constexpr std::string_view kGzipMagic = "\x1f\x8b\x08";
constexpr std::string_view kZstdMagic = "\x28\xb5\x2f\xfd";

bool ends_with_in_any_case(std::string_view text, std::string_view end) {
  if (text.size() <= end.size()) return false;
  return std::equal(end.begin(), end.end(), text.end() - static_cast<std::ptrdiff_t>(end.size()),
                    [](char wanted, char c) {
                      return wanted ==
                             (c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c);
                    });
}

class GzipDecompressor : public Decompressor {
 public:
  explicit GzipDecompressor(const std::string& path) : Decompressor(path) {
    // 15: the largest window; + 16: gzip framing.
    if (inflateInit2(&stream_, 15 + 16) != Z_OK) throw SystemError("zlib: out of memory");
  }
  ~GzipDecompressor() override { inflateEnd(&stream_); }

 protected:
  const char* format() const override { return "gzip"; }
  void begin_member() override { inflateReset(&stream_); }
  bool may_begin_member(char first) const override { return first == kGzipMagic[0]; }
  Progress decompress(std::string_view input, std::span<char> output) override {
    stream_.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(input.data()));
    stream_.avail_in = static_cast<uInt>(input.size());
    stream_.next_out = reinterpret_cast<Bytef*>(output.data());
    stream_.avail_out = static_cast<uInt>(output.size());
    const int result = inflate(&stream_, Z_NO_FLUSH);
    if (result == Z_MEM_ERROR) throw SystemError("zlib: out of memory");
    Progress progress{.read = input.size() - stream_.avail_in,
                      .written = output.size() - stream_.avail_out,
                      .is_member_complete = result == Z_STREAM_END};
    if (result != Z_OK && result != Z_STREAM_END && result != Z_BUF_ERROR)
      progress.trouble = stream_.msg ? stream_.msg : "needs a dictionary";
    return progress;
  }

 private:
  z_stream stream_{};
};

class ZstdDecompressor : public Decompressor {
 public:
  explicit ZstdDecompressor(const std::string& path)
      : Decompressor(path), context_(ZSTD_createDCtx()) {
    if (!context_) throw SystemError("zstd: out of memory");
    // Corpora are also compressed with windows of 2 GiB (zstd --long=31).
    ZSTD_DCtx_setParameter(context_, ZSTD_d_windowLogMax, 31);
  }
  ~ZstdDecompressor() override { ZSTD_freeDCtx(context_); }

 protected:
  const char* format() const override { return "zstd"; }
  void begin_member() override { ZSTD_DCtx_reset(context_, ZSTD_reset_session_only); }
  bool may_begin_member(char first) const override {
    return first == kZstdMagic[0] || (first & 0xF0) == 0x50;  // or a frame to be skipped
  }
  Progress decompress(std::string_view input, std::span<char> output) override {
    ZSTD_inBuffer in{input.data(), input.size(), 0};
    ZSTD_outBuffer out{output.data(), output.size(), 0};
    const std::size_t result = ZSTD_decompressStream(context_, &out, &in);
    const bool is_damaged = ZSTD_isError(result) != 0;
    return {.read = in.pos,
            .written = out.pos,
            .is_member_complete = result == 0,
            .trouble = is_damaged ? ZSTD_getErrorName(result) : ""};
  }

 private:
  ZSTD_DCtx* context_;
};

}  // namespace

std::size_t Decompressor::run(std::string_view& input, std::int64_t end, std::span<char> output) {
  const auto position = [&] { return end - static_cast<std::int64_t>(input.size()); };
  std::size_t written = 0;
  while (written < output.size() && !(is_between_members_ && input.empty())) {
    if (is_between_members_ && has_members_) {
      input.remove_prefix(std::min(input.find_first_not_of('\0'), input.size()));
      if (input.empty()) break;
      SMOE_CHECK(may_begin_member(input[0]), path_, ": holds other data after its ", format(),
                 " data, at byte ", position());
    }
    if (is_between_members_) begin_member();
    is_between_members_ = false;
    has_members_ = true;
    const Progress progress = decompress(input, output.subspan(written));
    input.remove_prefix(progress.read);
    written += progress.written;
    SMOE_CHECK(progress.trouble.empty(), path_, ": damaged ", format(), " data before byte ",
               position(), ": ", progress.trouble);
    is_between_members_ = progress.is_member_complete;
    if (progress.read == 0 && progress.written == 0 && !progress.is_member_complete) break;
  }
  return written;
}

void Decompressor::finish(std::int64_t end) const {
  SMOE_CHECK(is_between_members_ && end > 0, path_, ": truncated: its ", format(),
             " data end at byte ", end);
}

std::unique_ptr<Decompressor> make_decompressor(const std::string& path,
                                                std::string_view beginning) {
  if (ends_with_in_any_case(path, ".gz") || beginning.starts_with(kGzipMagic))
    return std::make_unique<GzipDecompressor>(path);
  if (ends_with_in_any_case(path, ".zst") || beginning.starts_with(kZstdMagic))
    return std::make_unique<ZstdDecompressor>(path);
  return nullptr;
}

std::string_view without_compression(std::string_view path) {
  for (const std::string_view end : {".gz", ".zst"})
    if (ends_with_in_any_case(path, end)) return path.substr(0, path.size() - end.size());
  return path;
}

}  // namespace smoe
