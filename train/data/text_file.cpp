#include "train/data/text_file.h"

#include <zlib.h>

#include <set>

#include "core/base/check.h"
#include "core/system/folder.h"

namespace smoe {
namespace {

constexpr std::size_t kPieceBytes = 1 << 20;
constexpr std::size_t kBinaryProbeBytes = 4096;
constexpr Bytef kGzipMagic = 0x1f;  // the first byte of a member

std::string lower_case(std::string text) {
  for (char& c : text)
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
  return text;
}

bool is_hidden(const FolderEntry& entry) {
  return entry.name.front() == '.';
}

using RealPaths = std::set<std::string>;

void list_files_of(const std::string& folder, RealPaths& seen, std::vector<TextFile>& files) {
  for (const FolderEntry& entry : list_folder(folder)) {
    if (is_hidden(entry)) continue;
    if (entry.kind != PathKind::file && entry.kind != PathKind::folder) continue;
    const std::string path = folder + (folder.back() == '/' ? "" : "/") + entry.name;
    std::string real_path = absolute_path(path);
    if (!seen.insert(real_path).second) continue;
    if (entry.kind == PathKind::folder) list_files_of(path, seen, files);
    if (entry.kind == PathKind::file)
      files.push_back({path, std::move(real_path), false,
                       entry.is_link ? File::open(path).size() : entry.bytes});
  }
}

bool is_gzip_name(const std::string& path) {
  constexpr std::size_t kSuffix = 3;
  return path.size() > kSuffix && lower_case(path.substr(path.size() - kSuffix)) == ".gz";
}

}  // namespace

std::vector<TextFile> list_text_files(const std::vector<std::string>& inputs) {
  std::vector<TextFile> files;
  RealPaths seen;
  for (const std::string& input : inputs) {
    const PathKind kind = kind_of(input);
    SMOE_CHECK(kind != PathKind::none, input, ": no such file or folder");
    std::string real_path = absolute_path(input);
    SMOE_CHECK(seen.insert(real_path).second, input, ": given twice");
    if (kind == PathKind::folder) {
      list_files_of(input, seen, files);
    } else {
      files.push_back({input, std::move(real_path), true, File::open(input).size()});
    }
  }
  SMOE_CHECK(!files.empty(), inputs.empty() ? "no input" : inputs.front(), ": no files in it");
  return files;
}

std::string text_name(const std::string& path) {
  const std::string name = lower_case(path);
  return is_gzip_name(path) ? name.substr(0, name.size() - 3) : name;
}

// The state of zlib and its output buffer.
struct TextReader::Inflater {
  Inflater() {
    // 15: the largest window; + 16: gzip framing.
    if (inflateInit2(&stream, 15 + 16) != Z_OK) throw SystemError("zlib: out of memory");
  }
  ~Inflater() { inflateEnd(&stream); }
  Inflater(const Inflater&) = delete;
  Inflater& operator=(const Inflater&) = delete;

  z_stream stream{};
  std::string output = std::string(kPieceBytes, '\0');
  bool is_between_members = true;
  bool has_members = false;
};

TextReader::TextReader(const std::string& path) : file_(File::open(path)) {
  if (is_gzip_name(path)) inflater_ = std::make_unique<Inflater>();
}

TextReader::~TextReader() = default;

std::string_view TextReader::read_piece() {
  piece_.resize(kPieceBytes);
  const std::int64_t got = file_.read_some_at(bytes_read_, piece_.data(), kPieceBytes);
  bytes_read_ += got;
  return std::string_view(piece_).substr(0, static_cast<std::size_t>(got));
}

std::string_view TextReader::next() {
  if (!inflater_) return read_piece();
  z_stream& stream = inflater_->stream;
  stream.next_out = reinterpret_cast<Bytef*>(inflater_->output.data());
  stream.avail_out = kPieceBytes;
  while (stream.avail_out > 0) {
    if (stream.avail_in == 0) {
      const std::string_view input = read_piece();
      if (input.empty()) {
        SMOE_CHECK(inflater_->is_between_members && bytes_read_ > 0, file_.path(),
                   ": truncated: its gzip data end at byte ", bytes_read_);
        break;
      }
      stream.next_in = reinterpret_cast<Bytef*>(piece_.data());
      stream.avail_in = static_cast<uInt>(input.size());
    }
    if (inflater_->is_between_members && inflater_->has_members) {
      // Tools that copy whole blocks leave zeros behind the last member.
      while (stream.avail_in > 0 && *stream.next_in == 0) {
        ++stream.next_in;
        --stream.avail_in;
      }
      if (stream.avail_in == 0) continue;
      SMOE_CHECK(*stream.next_in == kGzipMagic, file_.path(), ": holds other data behind its gzip ",
                 "data, at byte ", bytes_read_ - stream.avail_in);
    }
    inflater_->has_members = true;
    if (inflater_->is_between_members) inflateReset(&stream);
    inflater_->is_between_members = false;
    const int result = inflate(&stream, Z_NO_FLUSH);
    if (result == Z_MEM_ERROR) throw SystemError("zlib: out of memory");
    SMOE_CHECK(result == Z_OK || result == Z_STREAM_END || result == Z_BUF_ERROR, file_.path(),
               ": damaged gzip data before byte ", bytes_read_ - stream.avail_in, ": ",
               stream.msg ? stream.msg : "needs a dictionary");
    // A gzip file may consist of several members.
    inflater_->is_between_members = result == Z_STREAM_END;
  }
  return std::string_view(inflater_->output).substr(0, kPieceBytes - stream.avail_out);
}

bool is_binary(std::string_view beginning) {
  return beginning.substr(0, kBinaryProbeBytes).find('\0') != std::string_view::npos;
}

}  // namespace smoe
