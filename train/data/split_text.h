// The text of many files, one after the other, divided into a training and a validation split.
#pragma once
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "train/data/documents.h"
#include "train/data/token_set_format.h"

namespace smoe {

/// A file with text.
struct TextSource {
  std::string path;
  std::int64_t text_bytes = 0;  ///< of its documents
};

/// Reads sources in their order: their first `train_bytes` of text are the training split, the rest
/// the validation split. A document that the border falls into is one in both.
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
  /// Throws: UsageError when a source has other text than it had; what DocumentReader throws.
  bool next(Piece& piece);
  /// Bytes of text given out so far.
  std::int64_t done() const { return done_; }

 private:
  bool read();
  void finish_source();

  const std::vector<TextSource>& sources_;
  std::int64_t train_bytes_;
  std::string json_field_;
  std::size_t next_source_ = 0;
  std::unique_ptr<DocumentReader> reader_;  // of the source before next_source_, until its end
  TextPiece rest_;                          // read and not given out
  std::int64_t done_ = 0;
  std::int64_t source_begin_ = 0;  // done_ where the source being read began
};

/// The training split in pieces, or, when it has more than `sample_bytes`, blocks of 64 KiB that
/// are spread evenly over it and make up that many bytes.
class TrainingSample {
 public:
  TrainingSample(SplitText& text, std::int64_t train_bytes, std::int64_t sample_bytes)
      : text_(text), train_bytes_(train_bytes), sample_bytes_(sample_bytes) {}

  /// The next stretch, valid until the next call; empty at the end.
  std::string_view next();

 private:
  bool is_chosen(std::int64_t block) const;

  SplitText& text_;
  std::int64_t train_bytes_;
  std::int64_t sample_bytes_;
  SplitText::Piece piece_;
  std::int64_t position_ = 0;  // of piece_ in the text
};

}  // namespace smoe
