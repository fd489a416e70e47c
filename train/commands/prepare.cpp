// `smoe prepare --input PATH... --output FILE`: text to a token set.
#include "train/data/prepare.h"

#include <fmt/format.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <cmath>
#include <csignal>
#include <iostream>
#include <memory>
#include <numeric>
#include <optional>

#include "core/base/check.h"
#include "core/system/cores.h"
#include "core/system/folder.h"
#include "core/system/format.h"
#include "kernels/threads.h"
#include "train/commands/commands.h"
#include "train/report/progress.h"
#include "train/signals.h"

namespace smoe {
namespace {

// Ends the work when a signal asks for it.
struct Stopped {
  int signal;
};

std::int64_t sum(const std::int64_t (&counts)[kNumSplits]) {
  return std::accumulate(counts, counts + kNumSplits, std::int64_t{0});
}

void print_summary(const PrepareSummary& summary, const std::string& path) {
  const TokenSetHeader& header = summary.header;
  const auto text_bytes = static_cast<double>(sum(header.text_bytes));
  std::cout << fmt::format("{}: {} from {} in {}, {}/s\n", path, format_bytes(header.file_bytes),
                           counted(summary.num_files, "text file"),
                           format_duration(summary.seconds),
                           format_bytes(std::llround(text_bytes / summary.seconds)));
  for (int i = 0; i < kNumSplits; ++i) {
    std::cout << fmt::format("  {:<12}{} tokens, {} bytes of text, {}\n",
                             name_of(static_cast<Split>(i)), grouped(header.num_tokens[i]),
                             grouped(header.text_bytes[i]),
                             counted(header.num_documents[i], "document"));
  }
  if (summary.num_empty + summary.num_binary > 0) {
    std::cout << fmt::format("  {:<12}{} and {}\n", "left out",
                             counted(summary.num_empty, "empty file"),
                             counted(summary.num_binary, "binary file"));
  }
  std::cout << fmt::format("  {:<12}{}; {:.2f} bytes of text a token\n", "tokenizer",
                           summary.tokenizer,
                           text_bytes / static_cast<double>(sum(header.num_tokens)));
  std::cout << fmt::format("  {:<12}{}\n", "digest", header.content_digest().hex());
}

int run_prepare(const PrepareOptions& options) {
  SMOE_CHECK(options.is_forced || kind_of(options.output) != PathKind::file, options.output,
             ": exists already; --force replaces it");
  kernels::cpu::set_num_threads(num_usable_cores());
  std::optional<StopSignals> signals(std::in_place);
  PrepareSummary summary;
  try {
    Progress progress(std::cerr, ::isatty(STDERR_FILENO) == 1);
    summary = prepare(options, [&](const char* part, std::int64_t done, std::int64_t total) {
      progress.update(part, done, total);
      if (!signals || signals->received() == 0) return;
      const int signal = signals->received();
      // A tokenizer cannot stop being trained. Nothing is written yet, so the signal does to the
      // process what it does to any.
      if (total == 0) {
        signals.reset();
        std::raise(signal);
      } else {
        throw Stopped{signal};
      }
    });
  } catch (const Stopped& stopped) {
    std::cerr << "smoe prepare: stopped by " << signal_name(stopped.signal) << "; "
              << options.output << " was not written\n";
    return exit_code_of_signal(stopped.signal);
  }
  print_summary(summary, options.output);
  return 0;
}

}  // namespace

Command add_prepare_command(CLI::App& app) {
  auto options = std::make_shared<PrepareOptions>();
  CLI::App* prepare = app.add_subcommand("prepare", "Turn text into a token set to train on");
  prepare
      ->add_option("--input", options->inputs,
                   "Text files, .gz too, and folders with everything in them but hidden files; "
                   "each file is a document, in .jsonl files each line")
      ->required()
      ->type_name("PATH");
  prepare->add_option("--output", options->output, "The token set, an HDF5 file")
      ->required()
      ->type_name("FILE");
  prepare
      ->add_option("--tokenizer", options->tokenizer,
                   "bytes; bpe, to train SentencePiece on 16 MiB of the text; or a tokenizer's "
                   "file, such as "
                   "tokenizer.model of a run or of a Hugging Face checkpoint")
      ->type_name("bytes|bpe|FILE")
      ->capture_default_str();
  prepare
      ->add_option("--vocab-size", options->vocab_size,
                   "Tokens of the bpe to train, 259 of them for bytes and such; " +
                       std::to_string(kDefaultVocabSize) + " if not given")
      ->check(CLI::PositiveNumber)
      ->type_name("N");
  prepare
      ->add_option("--json-field", options->json_field,
                   "Field that holds the text in lines of .jsonl files")
      ->type_name("NAME")
      ->capture_default_str();
  CLI::Option* fraction =
      prepare
          ->add_option("--validation-fraction", options->validation_fraction,
                       "Share of the text's bytes that is kept for validation, from its end")
          ->type_name("SHARE")
          ->capture_default_str();
  prepare
      ->add_option("--validation", options->validation,
                   "Files and folders to validate on, instead of a share of the input")
      ->type_name("PATH")
      ->excludes(fraction);
  prepare->add_flag("--force", options->is_forced, "Replace FILE if it exists");
  prepare->footer(
      "Examples:\n"
      "  smoe prepare --input book.txt --output data/book.h5\n"
      "  smoe prepare --input texts/ more.txt.gz --output data/set.h5 --validation-fraction 0.02\n"
      "  smoe prepare --input web.jsonl --output data/web.h5 --tokenizer bpe --vocab-size 16000\n"
      "  smoe prepare --input code/ --output data/code.h5 --tokenizer runs/web/tokenizer.model\n"
      "  smoe prepare --input train/ --validation valid/ --output data/set.h5 --force");
  return {prepare, [options] { return run_prepare(*options); }};
}

}  // namespace smoe
