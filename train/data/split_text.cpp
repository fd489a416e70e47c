#include "train/data/split_text.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "core/base/check.h"
#include "core/system/digest.h"

namespace smoe {
namespace {

constexpr std::int64_t kSampleBlockBytes = 1 << 16;
constexpr std::size_t kHashedBytes = 1 << 16;  // of a document

// Moves `position` in `piece` to the next boundary between UTF-8 characters.
std::size_t character_boundary(std::string_view piece, std::size_t position) {
  const auto is_continuation = [](char c) {
    return (static_cast<unsigned char>(c) & 0xC0) == 0x80;
  };
  const std::size_t limit = std::min(piece.size(), position + 3);
  while (position < limit && is_continuation(piece[position])) ++position;
  return position;
}

}  // namespace

std::int64_t Corpus::text_bytes() const {
  return std::accumulate(sources.begin(), sources.end(), std::int64_t{0},
                         [](std::int64_t sum, const TextSource& s) { return sum + s.text_bytes; });
}

ValidationChoice::ValidationChoice(double fraction)
    : limit_(static_cast<std::uint64_t>(std::ldexp(fraction, 64))) {}

bool ValidationChoice::is_chosen(std::string_view beginning) const {
  return digest_of(beginning.substr(0, kHashedBytes)).high < limit_;
}

bool SplitText::next(Piece& piece) {
  if (rest_.text.empty() && !read()) return false;
  std::size_t size = rest_.text.size();
  Split split = pass_;
  if (corpus_.rule == SplitRule::tail) {
    const std::int64_t left = corpus_.train_bytes - done_;
    if (left > 0 && left < static_cast<std::int64_t>(size))
      size = character_boundary(rest_.text, static_cast<std::size_t>(left));
    split = left > 0 ? Split::train : Split::validation;
  }
  piece = {rest_.text.substr(0, size), split, rest_.begins_document};
  rest_.text.remove_prefix(size);
  done_ += static_cast<std::int64_t>(size);
  // Text after the split boundary begins a document, even in the middle of one.
  rest_.begins_document =
      corpus_.rule == SplitRule::tail && split == Split::train && done_ >= corpus_.train_bytes;
  return true;
}

// Reads the next piece of the pass into rest_; returns false at the end of all passes.
bool SplitText::read() {
  const bool begins_split = rest_.begins_document;
  do {
    if (reader_ || next_source_ < corpus_.sources.size()) continue;
    if (corpus_.rule == SplitRule::tail || pass_ == Split::validation) return false;
    pass_ = Split::validation;
    next_source_ = 0;
  } while (!read_source());
  rest_.begins_document |= begins_split;
  return true;
}

// Reads the next piece of the pass from the current or next source; returns false at its end.
bool SplitText::read_source() {
  if (!reader_) {
    reader_ = std::make_unique<DocumentReader>(corpus_.sources[next_source_++].file, options_);
    source_bytes_ = 0;
  }
  while (reader_->next(rest_)) {
    source_bytes_ += static_cast<std::int64_t>(rest_.text.size());
    if (corpus_.rule == SplitRule::tail) return true;
    if (rest_.begins_document)
      is_in_pass_ = choice_.is_chosen(rest_.text) == (pass_ == Split::validation);
    if (is_in_pass_) return true;
  }
  rest_ = {};
  finish_source();
  return false;
}

void SplitText::finish_source() {
  const auto& [file, text_bytes] = corpus_.sources[next_source_ - 1];
  SMOE_CHECK(source_bytes_ == text_bytes, file.name, ": changed while it was read: ", text_bytes,
             " bytes of text before, ", source_bytes_, " now");
  reader_.reset();
}

std::string_view TrainingSample::next() {
  for (;;) {
    if (piece_.text.empty()) {
      position_ = text_.bytes_done();
      if (!text_.next(piece_) || piece_.split != Split::train) return {};
    }
    const std::int64_t block = position_ / kSampleBlockBytes;
    const auto size = std::min(
        piece_.text.size(), static_cast<std::size_t>((block + 1) * kSampleBlockBytes - position_));
    const std::string_view front = piece_.text.substr(0, size);
    piece_.text.remove_prefix(size);
    position_ += static_cast<std::int64_t>(size);
    if (is_chosen(block)) return front;
  }
}

bool TrainingSample::is_chosen(std::int64_t block) const {
  if (train_bytes_ <= sample_bytes_) return true;
  const std::int64_t num_blocks = train_bytes_ / kSampleBlockBytes + 1;
  const std::int64_t num_chosen = sample_bytes_ / kSampleBlockBytes;
  return (block + 1) * num_chosen / num_blocks != block * num_chosen / num_blocks;
}

}  // namespace smoe
