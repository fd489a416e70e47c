#include "train/data/text_reader.h"

#include <span>
#include <utility>

namespace smoe {
namespace {

constexpr std::size_t kPieceBytes = 1 << 20;
constexpr std::size_t kBinaryProbeBytes = 4096;

}  // namespace

TextReader::TextReader(const std::string& path, const std::string& name) : file_(File::open(path)) {
  read_piece();
  decompressor_ = make_decompressor(name, rest_);
  if (decompressor_) output_.resize(kPieceBytes);
}

void TextReader::read_piece() {
  piece_.resize(kPieceBytes);
  const std::int64_t got = file_.read_some_at(bytes_read_, piece_.data(), kPieceBytes);
  bytes_read_ += got;
  rest_ = std::string_view(piece_).substr(0, static_cast<std::size_t>(got));
}

std::string_view TextReader::next() {
  if (!decompressor_) {
    if (rest_.empty()) read_piece();
    return std::exchange(rest_, {});
  }
  std::size_t written = 0;
  while (written < output_.size()) {
    if (rest_.empty()) read_piece();
    const bool is_end = rest_.empty();
    const std::size_t more =
        decompressor_->run(rest_, bytes_read_, std::span(output_).subspan(written));
    written += more;
    if (is_end && more == 0) {
      if (written == 0) decompressor_->finish(bytes_read_);
      break;
    }
  }
  return std::string_view(output_).substr(0, written);
}

bool is_binary(std::string_view beginning) {
  return beginning.substr(0, kBinaryProbeBytes).find('\0') != std::string_view::npos;
}

}  // namespace smoe
