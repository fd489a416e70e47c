#include "train/data/prepare.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <set>

#include "core/base/check.h"
#include "core/io.h"
#include "train/data/text_file.h"
#include "train/data/token_set_writer.h"

namespace smoe {
namespace {

// A file of text with at least one byte.
struct Document {
  std::string path;
  std::int64_t text_bytes = 0;
};

void check_options(const PrepareOptions& options) {
  SMOE_CHECK(options.validation_fraction >= 0 && options.validation_fraction < 1,
             "--validation-fraction: must be in [0, 1); got ", options.validation_fraction);
  const PathKind kind = kind_of(options.output);
  SMOE_CHECK(kind == PathKind::none || kind == PathKind::file, options.output,
             ": cannot be written: it is no file");
  SMOE_CHECK(kind == PathKind::none || options.is_forced, options.output,
             ": exists already; --force replaces it");
}

void check_disjoint(const std::vector<TextFile>& files, const std::vector<TextFile>& others) {
  std::set<std::string_view> paths;
  for (const TextFile& file : files) paths.insert(file.path);
  for (const TextFile& file : others)
    SMOE_CHECK(!paths.contains(file.path), file.path, ": is to be trained on and validated on");
}

// The documents among `files` with the sizes of their text; counts those left out.
std::vector<Document> measure(const std::vector<TextFile>& files, PrepareSummary& summary,
                              const PrepareProgress& progress) {
  const std::int64_t total =
      std::accumulate(files.begin(), files.end(), std::int64_t{0},
                      [](std::int64_t sum, const TextFile& file) { return sum + file.bytes; });
  std::vector<Document> documents;
  std::int64_t done = 0;
  for (const TextFile& file : files) {
    TextReader reader(file.path);
    std::string_view piece = reader.next();
    const bool is_text = !is_binary(piece);
    SMOE_CHECK(is_text || !file.is_named, file.path, ": is no text: it has zero bytes");
    std::int64_t text_bytes = 0;
    for (; is_text && !piece.empty(); piece = reader.next()) {
      text_bytes += static_cast<std::int64_t>(piece.size());
      progress("measuring", done + reader.bytes_read(), total);
    }
    done += file.bytes;
    summary.num_binary += !is_text;
    summary.num_empty += is_text && text_bytes == 0;
    if (text_bytes > 0) documents.push_back({file.path, text_bytes});
  }
  summary.num_files += static_cast<std::int64_t>(documents.size());
  return documents;
}

std::int64_t text_bytes_of(const std::vector<Document>& documents) {
  return std::accumulate(documents.begin(), documents.end(), std::int64_t{0},
                         [](std::int64_t sum, const Document& d) { return sum + d.text_bytes; });
}

// Where in `piece` a cut at `position` falls: a little later when that is within a UTF-8 character.
std::size_t character_border(std::string_view piece, std::size_t position) {
  const auto is_continuation = [](char c) {
    return (static_cast<unsigned char>(c) & 0xC0) == 0x80;
  };
  const std::size_t limit = std::min(piece.size(), position + 3);
  while (position < limit && is_continuation(piece[position])) ++position;
  return position;
}

// Encodes documents one after the other, the first `train_bytes` of their text into the training
// split, the rest into the validation split.
class Encoder {
 public:
  Encoder(TokenSetWriter& writer, std::int64_t train_bytes, std::int64_t total_bytes,
          const PrepareProgress& progress)
      : writer_(writer),
        train_bytes_(train_bytes),
        total_bytes_(total_bytes),
        progress_(progress) {}

  void encode(const Document& document) {
    TextReader reader(document.path);
    const std::int64_t begin = done_;
    is_in_document_ = false;
    for (std::string_view piece = reader.next(); !piece.empty(); piece = reader.next()) {
      if (done_ < train_bytes_) {
        const std::int64_t left = train_bytes_ - done_;
        const bool is_cut_here = left < static_cast<std::int64_t>(piece.size());
        const std::size_t cut =
            is_cut_here ? character_border(piece, static_cast<std::size_t>(left)) : piece.size();
        put(Split::train, piece.substr(0, cut));
        piece.remove_prefix(cut);
      }
      put(Split::validation, piece);
      progress_("encoding", done_, total_bytes_);
    }
    SMOE_CHECK(done_ - begin == document.text_bytes, document.path,
               ": changed while it was read: ", document.text_bytes, " bytes of text before, ",
               done_ - begin, " now");
  }

 private:
  void put(Split split, std::string_view text) {
    if (text.empty()) return;
    if (!is_in_document_ || split != split_) writer_.begin_document(split);
    is_in_document_ = true;
    split_ = split;
    writer_.append(text);
    done_ += static_cast<std::int64_t>(text.size());
  }

  TokenSetWriter& writer_;
  std::int64_t train_bytes_;
  std::int64_t total_bytes_;
  const PrepareProgress& progress_;
  std::int64_t done_ = 0;
  bool is_in_document_ = false;
  Split split_ = Split::train;
};

}  // namespace

PrepareSummary prepare(const PrepareOptions& options, const Tokenizer& tokenizer,
                       const PrepareProgress& progress) {
  check_options(options);
  const bool has_own_validation = !options.validation.empty();
  const std::vector<TextFile> files = list_text_files(options.inputs);
  const std::vector<TextFile> validation_files =
      has_own_validation ? list_text_files(options.validation) : std::vector<TextFile>();
  check_disjoint(files, validation_files);
  PrepareSummary summary;
  std::vector<Document> documents = measure(files, summary, progress);
  const std::int64_t input_bytes = text_bytes_of(documents);
  SMOE_CHECK(input_bytes > 0, options.inputs.front(), ": no text in ", files.size(), " files");
  std::int64_t train_bytes = input_bytes;
  if (has_own_validation) {
    const std::vector<Document> more = measure(validation_files, summary, progress);
    SMOE_CHECK(!more.empty(), options.validation.front(), ": no text to validate on");
    documents.insert(documents.end(), more.begin(), more.end());
  } else {
    const double share = options.validation_fraction * static_cast<double>(input_bytes);
    // A text of a few bytes still gives one to validate on.
    if (share > 0) train_bytes -= std::max<std::int64_t>(1, std::llround(share));
    SMOE_CHECK(train_bytes > 0, options.inputs.front(), ": ", input_bytes,
               " bytes of text leave none to train on");
  }

  make_folders(parent_of(options.output));
  TokenSetWriter writer(options.output, tokenizer);
  Encoder encoder(writer, train_bytes, text_bytes_of(documents), progress);
  for (const Document& document : documents) encoder.encode(document);
  summary.header = writer.finish();
  return summary;
}

}  // namespace smoe
