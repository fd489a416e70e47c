// `smoe export RUN FOLDER`: writes the model of a run for Hugging Face transformers.
#include "train/huggingface/export.h"

#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <iostream>
#include <limits>
#include <memory>

#include "core/system/cores.h"
#include "core/system/format.h"
#include "kernels/threads.h"
#include "train/commands/arguments.h"
#include "train/commands/commands.h"
#include "train/commands/with_progress.h"

namespace smoe {
namespace {

void print_summary(const ExportSummary& summary, const std::string& output) {
  std::string tokenizer;
  for (const std::string& file : summary.tokenizer_files)
    tokenizer += (tokenizer.empty() ? "" : ", ") + file;
  std::cout << fmt::format("{}: {}, trained for {} steps\n", output, name_of(summary.config.family),
                           summary.step)
            << fmt::format("  weights    {} tensors, {} in {} file{}\n", summary.num_tensors,
                           format_bytes(summary.weight_bytes), summary.num_weight_files,
                           summary.num_weight_files == 1 ? "" : "s")
            << fmt::format("  tokenizer  {}\n", tokenizer.empty() ? "none" : tokenizer);
}

int run_export(const ExportOptions& options) {
  kernels::cpu::set_num_threads(num_usable_cores());
  const ExportSummary summary =
      with_progress("; " + options.output + " was not written",
                    [&](const auto& show) { return export_model(options, show); });
  print_summary(summary, options.output);
  return 0;
}

}  // namespace

Command add_export_command(CLI::App& app) {
  auto options = std::make_shared<ExportOptions>();
  CLI::App* command =
      app.add_subcommand("export", "Write the model of a run for Hugging Face transformers");
  add_run_argument(*command, options->path);
  command->add_option("FOLDER", options->output, "Folder to create")->required();
  command
      ->add_option_function<std::string>(
          "--dtype",
          [options](const std::string& name) {
            options->dtype = name == "bf16" ? DType::bf16 : DType::f32;
          },
          "Data type of the weights: fp32, as trained, or bf16, rounded to half the size")
      ->check(CLI::IsMember({"fp32", "bf16"}))
      ->default_str("fp32");
  add_option(*command, "--max-shard-bytes", options->max_shard_bytes, "BYTES",
             "Largest size of a weight file; larger models are split into several files")
      ->check(CLI::Range(std::int64_t{1}, std::numeric_limits<std::int64_t>::max()));
  command->footer(
      "In transformers, load the folder with AutoModelForCausalLM and, if the run has a "
      "tokenizer,\n"
      "AutoTokenizer.\n"
      "\n"
      "Examples:\n"
      "  smoe export runs/tiny models/tiny\n"
      "  smoe export runs/tiny/checkpoints/step-00000600 models/tiny-600 --dtype bf16");
  return {command, [options] { return run_export(*options); }};
}

}  // namespace smoe
