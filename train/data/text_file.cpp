#include "train/data/text_file.h"

#include <zlib.h>

#include <set>

#include "core/base/check.h"
#include "core/system/folder.h"

namespace smoe {
namespace {

constexpr std::size_t kPieceBytes = 1 << 20;
constexpr std::size_t kBinaryProbeBytes = 4096;

bool is_hidden(const FolderEntry& entry) {
  return entry.name.front() == '.';
}

void list_files_of(const std::string& folder, std::vector<TextFile>& files) {
  for (const FolderEntry& entry : list_folder(folder)) {
    if (is_hidden(entry)) continue;
    const std::string path = folder + (folder.back() == '/' ? "" : "/") + entry.name;
    if (entry.kind == PathKind::file) files.push_back({path, false, entry.bytes});
    if (entry.kind == PathKind::folder && !entry.is_link) list_files_of(path, files);
  }
}

}  // namespace

std::vector<TextFile> list_text_files(const std::vector<std::string>& inputs) {
  std::vector<TextFile> files;
  for (const std::string& input : inputs) {
    const PathKind kind = kind_of(input);
    SMOE_CHECK(kind != PathKind::none, input, ": no such file or folder");
    if (kind == PathKind::folder) {
      list_files_of(input, files);
    } else {
      files.push_back({input, true, File::open(input).size()});
    }
  }
  std::set<std::string_view> seen;
  for (const TextFile& file : files)
    SMOE_CHECK(seen.insert(file.path).second, file.path, ": given twice");
  SMOE_CHECK(!files.empty(), inputs.empty() ? "no input" : inputs.front(), ": no files in it");
  return files;
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
};

TextReader::TextReader(const std::string& path) : file_(File::open(path)) {
  if (path.ends_with(".gz")) inflater_ = std::make_unique<Inflater>();
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
