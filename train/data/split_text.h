// Concatenates the text of many files and divides it into a training and a validation split.
#pragma once
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "train/data/documents.h"
#include "train/data/token_set_format.h"

namespace smoe {

/// A file with its amount of text.
struct TextSource {
  std::string path;
  std::int64_t text_bytes = 0;  ///< over its documents
};

/// Reads sources in order: the first `train_bytes` of text are the training split, the remainder is
/// the validation split. A document that spans the boundary becomes one document in each split.
class SplitText {
 public:
  struct Piece {
    std::string_view text;  ///< never empty
    Split split = Split::train;
    bool begins_document = false;
  };

  /// `sources` must outlive the object.
  SplitText(const std::vector<TextSource>& sources, std::int64_t train_bytes,
            const std::string& json_field)
      : sources_(sources), train_bytes_(train_bytes), json_field_(json_field) {}

  /// The next piece, valid until the next call; false at the end.
  /// Throws: UsageError when a source's text changed since it was measured; what DocumentReader
  /// throws.
  bool next(Piece& piece);
  /// Bytes of text returned so far.
  std::int64_t bytes_done() const { return done_; }

 private:
  bool read();
  void finish_source();

  const std::vector<TextSource>& sources_;
  std::int64_t train_bytes_;
  std::string json_field_;
  std::size_t next_source_ = 0;
  std::unique_ptr<DocumentReader> reader_;  // of source next_source_ - 1, until its end
  TextPiece rest_;                          // read but not returned
  std::int64_t done_ = 0;
  std::int64_t source_begin_ = 0;  // done_ at the start of the current source
};

/// Samples the training split: all of it, or, if it has more than `sample_bytes`, that many bytes
/// in 64 KiB blocks spread evenly over it.
class TrainingSample {
 public:
  TrainingSample(SplitText& text, std::int64_t train_bytes, std::int64_t sample_bytes)
      : text_(text), train_bytes_(train_bytes), sample_bytes_(sample_bytes) {}

  /// The next part of the sample, valid until the next call; empty at the end.
  std::string_view next();

 private:
  bool is_chosen(std::int64_t block) const;

  SplitText& text_;
  std::int64_t train_bytes_;
  std::int64_t sample_bytes_;
  SplitText::Piece piece_;
  std::int64_t position_ = 0;  // of piece_ in the whole text
};

}  // namespace smoe
