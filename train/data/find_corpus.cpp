#include "train/data/find_corpus.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <set>

#include "core/base/check.h"
#include "core/system/folder.h"
#include "core/system/standard_input.h"
#include "core/system/text.h"

namespace smoe {
namespace {

bool reads_standard_input(const PrepareOptions& options) {
  const auto has = [](const std::vector<std::string>& inputs) {
    return std::count(inputs.begin(), inputs.end(), kStandardInput) > 0;
  };
  return has(options.inputs) || has(options.validation);
}

// A copy of standard input beside the output, because text is read several times. Removed by its
// destructor.
std::unique_ptr<AtomicFile> copy_standard_input(const std::string& output,
                                                const PrepareProgress& progress) {
  make_folders(parent_of(output));
  auto copy = std::make_unique<AtomicFile>(output + ".input");
  std::string buffer(1 << 20, '\0');
  for (std::int64_t bytes = 0;;) {
    progress("reading standard input", bytes, -1);
    const auto got = read_standard_input(buffer.data(), buffer.size());
    if (!got) continue;
    if (*got == 0) return copy;
    copy->file().write_at(bytes, buffer.data(), static_cast<std::int64_t>(*got));
    bytes += static_cast<std::int64_t>(*got);
  }
}

void check_disjoint(const std::vector<TextFile>& files, const std::vector<TextFile>& others) {
  std::set<std::string_view> paths;
  for (const TextFile& file : files) paths.insert(file.real_path);
  for (const TextFile& file : others)
    SMOE_CHECK(!paths.contains(file.real_path), file.name,
               ": is in both the training and the validation input");
}

void check_is_no_text(const std::string& output, const std::vector<TextFile>& files) {
  std::vector<std::string> paths;
  for (const TextFile& file : files) paths.push_back(file.path);
  check_is_no_input(output, paths);
}

// ".txt"; for compressed files with what they hold: ".jsonl.gz".
std::string extension_of(const std::string& path) {
  const std::string name = name_of_path(path);
  const std::size_t dot = without_compression(name).rfind('.');
  return dot == std::string::npos || dot == 0 ? "" : name.substr(dot);
}

// Text of some files.
struct Measured {
  std::vector<TextSource> sources;
  std::int64_t text_bytes = 0;
  std::int64_t chosen_bytes = 0;  // of documents that are chosen for validation
};

class Measurement {
 public:
  Measurement(const PrepareOptions& options, PrepareSummary& summary,
              const PrepareProgress& progress)
      : options_(options),
        summary_(summary),
        progress_(progress),
        choice_(options.validation_fraction) {}

  Measured run(const std::vector<TextFile>& files) {
    total_ =
        std::accumulate(files.begin(), files.end(), std::int64_t{0},
                        [](std::int64_t sum, const TextFile& file) { return sum + file.bytes; });
    done_ = 0;
    measured_ = {};
    for (const TextFile& file : files) {
      measure(file);
      done_ += file.bytes;
    }
    return std::move(measured_);
  }

 private:
  void measure(const TextFile& file) {
    DocumentReader reader(file, options_.documents);
    TextPiece piece;
    bool has_piece = reader.next(piece);
    if (!reader.is_json_lines() && is_binary(piece.text)) {
      SMOE_CHECK(!file.is_named, file.name, ": is not text: it contains zero bytes");
      summary_.binary.add(extension_of(file.name), file.name);
      return;
    }
    std::int64_t text_bytes = 0;
    for (bool is_chosen = false; has_piece; has_piece = reader.next(piece)) {
      const auto bytes = static_cast<std::int64_t>(piece.text.size());
      if (piece.begins_document) is_chosen = choice_.is_chosen(piece.text);
      text_bytes += bytes;
      if (is_chosen) measured_.chosen_bytes += bytes;
      progress_("measuring", done_ + reader.bytes_read(), total_);
    }
    count_bad_lines(reader);
    if (text_bytes == 0) {
      summary_.empty.add(extension_of(file.name), file.name);
      return;
    }
    ++(reader.is_json_lines() ? summary_.json_lines : summary_.texts)[extension_of(file.name)];
    measured_.text_bytes += text_bytes;
    measured_.sources.push_back({file, text_bytes});
  }

  void count_bad_lines(const DocumentReader& reader) {
    if (summary_.num_bad_lines == 0) summary_.first_bad_line = reader.first_bad_line();
    summary_.num_bad_lines += reader.num_bad_lines();
  }

  const PrepareOptions& options_;
  PrepareSummary& summary_;
  const PrepareProgress& progress_;
  ValidationChoice choice_;
  Measured measured_;
  std::int64_t total_ = 0, done_ = 0;  // bytes of files
};

// Chooses the rule, and how much text is the training split, for a fraction of the input.
void split(const PrepareOptions& options, const Measured& measured, Corpus& corpus) {
  const auto all = static_cast<double>(measured.text_bytes);
  const auto chosen = static_cast<double>(measured.chosen_bytes);
  const double share = options.validation_fraction * all;
  corpus.validation_fraction = options.validation_fraction;
  // Few or unequal documents can miss the fraction by far.
  const auto is_near = [](double bytes, double wanted) {
    return bytes >= wanted / 2 && bytes <= wanted * 2;
  };
  const bool is_possible =
      share > 0 && is_near(chosen, share) && is_near(all - chosen, all - share);
  corpus.rule = is_possible ? options.split_rule : SplitRule::tail;
  if (corpus.rule == SplitRule::documents) {
    corpus.train_bytes -= measured.chosen_bytes;
  } else if (share > 0) {
    // Even a text of a few bytes yields one byte to validate on.
    corpus.train_bytes -= std::max<std::int64_t>(1, std::llround(share));
  }
  SMOE_CHECK(corpus.train_bytes > 0, options.inputs.front(), ": ", measured.text_bytes,
             " bytes of text leave none for the training split");
}

}  // namespace

Corpus find_corpus(const PrepareOptions& options, PrepareSummary& summary,
                   const PrepareProgress& progress) {
  Corpus corpus;
  if (reads_standard_input(options))
    corpus.standard_input = copy_standard_input(options.output, progress);
  const std::string copy = corpus.standard_input ? corpus.standard_input->file().path() : "";
  const std::vector<TextFile> files = list_text_files(options.inputs, copy);
  std::vector<TextFile> validation_files;
  if (!options.validation.empty()) validation_files = list_text_files(options.validation, copy);
  check_disjoint(files, validation_files);
  check_is_no_text(options.output, files);
  check_is_no_text(options.output, validation_files);

  Measurement measurement(options, summary, progress);
  Measured measured = measurement.run(files);
  SMOE_CHECK(measured.text_bytes > 0, options.inputs.front(), ": no text in ", files.size(),
             " files: ", count_of(summary.empty.kinds), " empty, ", count_of(summary.binary.kinds),
             " binary", summary.binary.kinds.empty() ? "" : ": " + listed(summary.binary.kinds));
  corpus.train_bytes = measured.text_bytes;
  corpus.sources = std::move(measured.sources);
  if (validation_files.empty()) {
    split(options, measured, corpus);
    return corpus;
  }
  const Measured more = measurement.run(validation_files);
  SMOE_CHECK(more.text_bytes > 0, options.validation.front(), ": no text to validate on");
  corpus.sources.insert(corpus.sources.end(), more.sources.begin(), more.sources.end());
  return corpus;
}

}  // namespace smoe
