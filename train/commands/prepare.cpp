// `smoe prepare --input PATH... --output FILE`: converts text to a token set.
#include "train/data/prepare.h"

#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <cmath>
#include <iostream>
#include <memory>
#include <numeric>

#include "core/base/check.h"
#include "core/system/cores.h"
#include "core/system/folder.h"
#include "core/system/format.h"
#include "kernels/threads.h"
#include "train/commands/arguments.h"
#include "train/commands/commands.h"
#include "train/commands/with_progress.h"

namespace smoe {
namespace {

std::int64_t sum(const std::int64_t (&counts)[kNumSplits]) {
  return std::accumulate(counts, counts + kNumSplits, std::int64_t{0});
}

void print_line(const char* label, const std::string& text) {
  std::cout << fmt::format("  {:<12}{}\n", label, text);
}

// What files were taken as, and what was left out.
void print_kinds(const PrepareSummary& summary) {
  const auto print = [](const char* label, const char* what, const FileKinds& kinds) {
    if (!kinds.empty())
      print_line(label, counted(count_of(kinds), "file") + what + ": " + listed(kinds));
  };
  print("read as", " of one document each", summary.texts);
  print(summary.texts.empty() ? "read as" : "", " of JSON lines", summary.json_lines);
  if (!summary.empty.kinds.empty())
    print_line("skipped",
               fmt::format("{}: {}", counted(count_of(summary.empty.kinds), "empty file"),
                           named(summary.empty)));
  if (!summary.binary.kinds.empty())
    print_line("skipped",
               fmt::format("{} ({}): {}", counted(count_of(summary.binary.kinds), "binary file"),
                           listed(summary.binary.kinds), named(summary.binary)));
  if (summary.num_bad_lines > 0)
    print_line("skipped",
               fmt::format("{}; the first: {}", counted(summary.num_bad_lines, "bad line"),
                           summary.first_bad_line));
}

std::string how_chosen(const TokenSetHeader& header) {
  if (header.num_documents[static_cast<int>(Split::validation)] == 0) return "";
  return header.split_rule == SplitRule::documents ? ", chosen by a hash" : ", the end of the text";
}

void print_summary(const PrepareSummary& summary, const std::string& path, bool is_split) {
  const TokenSetHeader& header = summary.header;
  const auto text_bytes = static_cast<double>(sum(header.text_bytes));
  const std::int64_t num_files = count_of(summary.texts) + count_of(summary.json_lines);
  std::cout << fmt::format("{}: {} from {} in {}, {}/s\n", path, format_bytes(header.file_bytes),
                           counted(num_files, "text file"), format_duration(summary.seconds),
                           format_bytes(std::llround(text_bytes / summary.seconds)));
  for (int i = 0; i < kNumSplits; ++i) {
    std::cout << fmt::format("  {:<12}{} tokens, {} bytes of text, {}{}\n",
                             name_of(static_cast<Split>(i)), grouped(header.num_tokens[i]),
                             grouped(header.text_bytes[i]),
                             counted(header.num_documents[i], "document"),
                             i == 0 || !is_split ? "" : how_chosen(header));
  }
  print_kinds(summary);
  std::cout << fmt::format("  {:<12}{}; {:.2f} bytes of text per token\n", "tokenizer",
                           summary.tokenizer,
                           text_bytes / static_cast<double>(sum(header.num_tokens)));
  std::cout << fmt::format("  {:<12}{}\n", "digest", header.content_digest().hex());
}

int run_prepare(const PrepareOptions& options) {
  SMOE_CHECK(options.is_forced || kind_of(options.output) != PathKind::file, options.output,
             ": exists already; --force replaces it");
  kernels::cpu::set_num_threads(num_usable_cores());
  const PrepareSummary summary =
      with_progress("; " + options.output + " was not written",
                    [&](const auto& show) { return prepare(options, show); });
  print_summary(summary, options.output, options.validation.empty());
  return 0;
}

void add_document_options(CLI::App& command, DocumentOptions& options) {
  add_option(command, "--json-field", options.json_field, "NAME",
             "Field with the text in JSON lines; a.b is the field b of the object a");
  command.add_flag("--skip-bad-lines", options.skips_bad_lines,
                   "Count JSON lines that cannot be used, instead of ending with an error");
}

}  // namespace

Command add_prepare_command(CLI::App& app) {
  auto options = std::make_shared<PrepareOptions>();
  CLI::App* prepare = app.add_subcommand("prepare", "Convert text to a token set for training");
  prepare
      ->add_option("--input", options->inputs,
                   "Text files, also .gz and .zst, folders, of which all files except hidden ones "
                   "are read, and - for standard input; each file is a document, of JSON lines "
                   "(.jsonl, .ndjson, .json) each line")
      ->required()
      ->type_name("PATH");
  prepare->add_option("--output", options->output, "Token set to write, an HDF5 file")
      ->required()
      ->type_name("FILE");
  add_option(
      *prepare, "--tokenizer", options->tokenizer, "bytes|bpe|FILE",
      "bytes; bpe: train SentencePiece on 16 MiB of the text; a tokenizer file, such as "
      "tokenizer.model or tokenizer.json of a run or of a Hugging Face checkpoint; or a token "
      "set, for its tokenizer");
  prepare
      ->add_option("--vocab-size", options->vocab_size,
                   "Vocabulary size of the bpe tokenizer, including 259 byte and control tokens; " +
                       std::to_string(kDefaultVocabSize) + " by default")
      ->check(CLI::PositiveNumber)
      ->type_name("N");
  add_document_options(*prepare, options->documents);
  CLI::Option* fraction =
      add_option(*prepare, "--validation-fraction", options->validation_fraction, "FRACTION",
                 "Fraction of the bytes of text to use for validation");
  prepare
      ->add_option_function<std::string>(
          "--validation-by",
          [options](const std::string& rule) {
            options->split_rule = rule == "tail" ? SplitRule::tail : SplitRule::documents;
          },
          "How this fraction is chosen: whole documents by a hash of their text, which does not "
          "change when others are added, or tail, the end of the text. The end is also taken where "
          "documents are too few or too unequal to come near the fraction")
      ->check(CLI::IsMember({"documents", "tail"}))
      ->default_str("documents")
      ->type_name("RULE");
  prepare
      ->add_option("--validation", options->validation,
                   "Files and folders to validate on, instead of a fraction of the input")
      ->type_name("PATH")
      ->excludes(fraction);
  prepare->add_flag("--force", options->is_forced, "Replace FILE if it exists");
  prepare->footer(
      "Examples:\n"
      "  smoe prepare --input book.txt --output data/book.h5\n"
      "  smoe prepare --input texts/ more.txt.gz --output data/set.h5 --validation-fraction 0.02\n"
      "  smoe prepare --input web.jsonl --output data/web.h5 --tokenizer bpe --vocab-size 16000\n"
      "  smoe prepare --input - --output data/piped.h5 < web.jsonl\n"
      "  smoe prepare --input code/ --output data/code.h5 --tokenizer data/web.h5\n"
      "  smoe prepare --input train/ --validation valid/ --output data/set.h5 --force");
  return {prepare, [options] { return run_prepare(*options); }};
}

Command add_tokenizer_command(CLI::App& app) {
  auto options = std::make_shared<PrepareOptions>();
  CLI::App* tokenizer = app.add_subcommand("tokenizer", "Train one tokenizer on several inputs");
  tokenizer->add_option("--input", options->inputs, "Text files and folders, as for smoe prepare")
      ->required()
      ->type_name("PATH");
  tokenizer->add_option("--output", options->output, "Tokenizer to write, such as tok.model")
      ->required()
      ->type_name("FILE");
  tokenizer
      ->add_option("--vocab-size", options->vocab_size,
                   "Vocabulary size, including 259 byte and control tokens; " +
                       std::to_string(kDefaultVocabSize) + " by default")
      ->check(CLI::PositiveNumber)
      ->type_name("N");
  add_document_options(*tokenizer, options->documents);
  tokenizer->add_flag("--force", options->is_forced, "Replace FILE if it exists");
  tokenizer->footer(
      "Trains SentencePiece BPE with byte fallback on 16 MiB sampled evenly from all text. Token\n"
      "sets that are blended in one run must have the same tokenizer.\n"
      "\n"
      "Examples:\n"
      "  smoe tokenizer --input web.jsonl code/ --vocab-size 16000 --output data/tok.model\n"
      "  smoe prepare --input web.jsonl --output data/web.h5 --tokenizer data/tok.model\n"
      "  smoe prepare --input code/ --output data/code.h5 --tokenizer data/tok.model");
  return {tokenizer, [options] {
            kernels::cpu::set_num_threads(num_usable_cores());
            const PrepareSummary summary =
                with_progress("; " + options->output + " was not written",
                              [&](const auto& show) { return prepare_tokenizer(*options, show); });
            std::cout << fmt::format(
                "{}: {}, from {} in {}\n", options->output, summary.tokenizer,
                counted(count_of(summary.texts) + count_of(summary.json_lines), "text file"),
                format_duration(summary.seconds));
            return 0;
          }};
}

}  // namespace smoe
