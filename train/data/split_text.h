// Concatenates the text of many files and divides it into a training and a validation split.
#pragma once
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "core/system/file.h"
#include "train/data/documents.h"
#include "train/data/token_set_format.h"

namespace smoe {

/// A file with its amount of text.
struct TextSource {
  TextFile file;
  std::int64_t text_bytes = 0;  ///< over its documents
};

/// Whether a document is chosen for validation: by a hash of its beginning, so that the choice
/// depends on nothing else. Chooses about `fraction` of all documents.
class ValidationChoice {
 public:
  explicit ValidationChoice(double fraction);
  /// `beginning`: the first piece of the document.
  bool is_chosen(std::string_view beginning) const;

 private:
  std::uint64_t limit_;
};

/// All text to encode, and which of it is the validation split.
struct Corpus {
  std::vector<TextSource> sources;
  SplitRule rule = SplitRule::tail;
  double validation_fraction = 0;                ///< of ValidationChoice
  std::int64_t train_bytes = 0;                  ///< of text; with the rule tail, they come first
  std::unique_ptr<AtomicFile> standard_input{};  ///< a copy of it, if it is among the sources

  std::int64_t text_bytes() const;
};

/// Reads the sources in order: first the training split, then the validation split. With the rule
/// tail, a document that spans the boundary becomes one document in each split.
class SplitText {
 public:
  struct Piece {
    std::string_view text;  ///< never empty
    Split split = Split::train;
    bool begins_document = false;
  };

  /// `corpus` must outlive the object.
  SplitText(const Corpus& corpus, const DocumentOptions& options)
      : corpus_(corpus), options_(options), choice_(corpus.validation_fraction) {}

  /// The next piece, valid until the next call; false at the end.
  /// Throws: UsageError when a source's text changed since it was measured; what DocumentReader
  /// throws.
  bool next(Piece& piece);
  /// Bytes of text returned so far.
  std::int64_t bytes_done() const { return done_; }

 private:
  bool read();
  bool read_source();
  void finish_source();

  const Corpus& corpus_;
  DocumentOptions options_;
  ValidationChoice choice_;
  Split pass_ = Split::train;  // by documents, the sources are read once for each split
  std::size_t next_source_ = 0;
  std::unique_ptr<DocumentReader> reader_;  // of source next_source_ - 1, until its end
  bool is_in_pass_ = true;                  // the current document
  TextPiece rest_;                          // read but not returned
  std::int64_t done_ = 0;
  std::int64_t source_bytes_ = 0;  // read from the current source
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
