// `smoe export RUN FOLDER`: a run's model for Hugging Face's transformers.
#include "train/huggingface/export.h"

#include <fmt/format.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <iostream>
#include <limits>
#include <memory>

#include "core/system/format.h"
#include "train/commands/commands.h"
#include "train/report/progress.h"

namespace smoe {
namespace {

void print_summary(const ExportSummary& summary, const std::string& output) {
  std::string tokenizer;
  for (const std::string& file : summary.tokenizer_files)
    tokenizer += (tokenizer.empty() ? "" : ", ") + file;
  std::cout << fmt::format("{}: Mixtral, trained for {} steps\n", output, summary.step)
            << fmt::format("  weights    {} tensors, {} in {} file{}\n", summary.num_tensors,
                           format_bytes(summary.weight_bytes), summary.num_weight_files,
                           summary.num_weight_files == 1 ? "" : "s")
            << fmt::format("  tokenizer  {}\n", tokenizer.empty() ? "none" : tokenizer);
}

int run_export(const ExportOptions& options) {
  ExportSummary summary;
  {
    Progress progress(std::cerr, ::isatty(STDERR_FILENO) == 1);
    summary = export_mixtral(options, [&](const char* part, std::int64_t done, std::int64_t total) {
      progress.update(part, done, total);
    });
  }
  print_summary(summary, options.output);
  return 0;
}

}  // namespace

Command add_export_command(CLI::App& app) {
  auto options = std::make_shared<ExportOptions>();
  CLI::App* command =
      app.add_subcommand("export", "Write a run's model for Hugging Face's transformers");
  command
      ->add_option("RUN", options->path,
                   "Folder of a run (its newest intact checkpoint), or of a checkpoint in one")
      ->required();
  command->add_option("FOLDER", options->output, "Folder to make")->required();
  command
      ->add_option_function<std::string>(
          "--dtype",
          [options](const std::string& name) {
            options->dtype = name == "bf16" ? DType::bf16 : DType::f32;
          },
          "Of the weights: fp32, as they were trained, or bf16, rounded to half the size")
      ->check(CLI::IsMember({"fp32", "bf16"}))
      ->default_str("fp32");
  command
      ->add_option("--max-shard-bytes", options->max_shard_bytes,
                   "Weights of more bytes are split into several files")
      ->check(CLI::Range(std::int64_t{1}, std::numeric_limits<std::int64_t>::max()))
      ->type_name("BYTES")
      ->capture_default_str();
  command->footer(
      "transformers loads the folder with AutoModelForCausalLM and, where the run has a "
      "tokenizer,\n"
      "AutoTokenizer.\n"
      "\n"
      "Examples:\n"
      "  smoe export runs/tiny models/tiny\n"
      "  smoe export runs/tiny/checkpoints/step-00000200 models/tiny-200 --dtype bf16");
  return {command, [options] { return run_export(*options); }};
}

}  // namespace smoe
