// `smoe prepare --input PATH... --output FILE`: text to a token set.
#include "train/data/prepare.h"

#include <fmt/format.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <iostream>
#include <memory>

#include "train/commands/commands.h"
#include "train/report/console_line.h"
#include "train/report/progress.h"
#include "train/signals.h"

namespace smoe {
namespace {

// Ends the work when a signal asks for it.
struct Stopped {
  int signal;
};

std::string grouped(std::int64_t number) {
  std::string digits = std::to_string(number);
  for (std::size_t i = digits.size(); i > 3; i -= 3) digits.insert(i - 3, 1, ',');
  return digits;
}

std::string counted(std::int64_t number, const std::string& noun) {
  return grouped(number) + " " + noun + (number == 1 ? "" : "s");
}

void print_summary(const PrepareSummary& summary, const Tokenizer& tokenizer,
                   const std::string& path) {
  const TokenSetHeader& header = summary.header;
  std::cout << fmt::format("{}: {} from {}\n", path, format_bytes(header.file_bytes),
                           counted(summary.num_files, "text file"));
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
  std::cout << fmt::format("  {:<12}{}\n", "tokenizer", tokenizer.summary());
  std::cout << fmt::format("  {:<12}{}\n", "digest", header.content_digest().hex());
}

int run_prepare(const PrepareOptions& options) {
  const StopSignals signals;
  const ByteTokenizer tokenizer;
  PrepareSummary summary;
  try {
    Progress progress(std::cerr, ::isatty(STDERR_FILENO) == 1);
    summary =
        prepare(options, tokenizer, [&](const char* part, std::int64_t done, std::int64_t total) {
          if (signals.received() != 0) throw Stopped{signals.received()};
          progress.update(part, done, total);
        });
  } catch (const Stopped& stopped) {
    std::cerr << "smoe prepare: stopped by " << signal_name(stopped.signal) << "; "
              << options.output << " was not written\n";
    return exit_code_of_signal(stopped.signal);
  }
  print_summary(summary, tokenizer, options.output);
  return 0;
}

}  // namespace

Command add_prepare_command(CLI::App& app) {
  auto options = std::make_shared<PrepareOptions>();
  CLI::App* prepare = app.add_subcommand("prepare", "Turn text into a token set to train on");
  prepare
      ->add_option("--input", options->inputs,
                   "Text files, .gz too, and folders with everything in them but hidden files; "
                   "each file is a document")
      ->required()
      ->type_name("PATH");
  prepare->add_option("--output", options->output, "The token set, an HDF5 file")
      ->required()
      ->type_name("FILE");
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
      "  smoe prepare --input train/ --validation valid/ --output data/set.h5 --force");
  return {prepare, [options] { return run_prepare(*options); }};
}

}  // namespace smoe
