#include "train/data/split_text.h"

#include <algorithm>

#include "core/base/check.h"

namespace smoe {
namespace {

constexpr std::int64_t kSampleBlockBytes = 1 << 16;

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

bool SplitText::next(Piece& piece) {
  if (rest_.text.empty() && !read()) return false;
  const std::int64_t left = train_bytes_ - done_;
  std::size_t size = rest_.text.size();
  if (left > 0 && left < static_cast<std::int64_t>(size))
    size = character_boundary(rest_.text, static_cast<std::size_t>(left));
  const Split split = left > 0 ? Split::train : Split::validation;
  piece = {rest_.text.substr(0, size), split, rest_.begins_document};
  rest_.text.remove_prefix(size);
  // Text after the split boundary begins a document, even in the middle of one.
  done_ += static_cast<std::int64_t>(size);
  rest_.begins_document = split == Split::train && done_ >= train_bytes_;
  return true;
}

// Reads the next piece into rest_; returns false at the end of all sources.
bool SplitText::read() {
  const bool begins_split = rest_.begins_document;
  for (;;) {
    if (!reader_) {
      if (next_source_ == sources_.size()) return false;
      reader_ = std::make_unique<DocumentReader>(sources_[next_source_++].path, json_field_);
      source_begin_ = done_;
    }
    if (reader_->next(rest_)) {
      rest_.begins_document |= begins_split;
      return true;
    }
    finish_source();
  }
}

void SplitText::finish_source() {
  const auto& [path, text_bytes] = sources_[next_source_ - 1];
  SMOE_CHECK(done_ - source_begin_ == text_bytes, path, ": changed while it was read: ", text_bytes,
             " bytes of text before, ", done_ - source_begin_, " now");
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
