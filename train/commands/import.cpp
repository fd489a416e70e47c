// `smoe import FOLDER RUN`: a Hugging Face model to a run.
#include "train/huggingface/import.h"

#include <fmt/format.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <iostream>
#include <memory>

#include "core/system/format.h"
#include "layers/model_size.h"
#include "train/commands/commands.h"
#include "train/report/progress.h"

namespace smoe {
namespace {

void print_summary(const ImportSummary& summary, const std::string& output) {
  const ModelConfig& m = summary.config.model;
  const ModelSize size = model_size(m);
  std::cout << fmt::format("{}: all {} tensors, {}\n", output, summary.num_tensors,
                           format_bytes(summary.weight_bytes))
            << fmt::format("  model       {} layers of width {}, {} experts of width {}, top {}\n",
                           m.num_layers, m.d_model, m.num_experts, m.d_expert, m.top_k)
            << fmt::format("  parameters  {}, {} active\n", size.total, size.active);
  std::cout << fmt::format("  tokenizer   {}\n", summary.tokenizer.empty()
                                                     ? "none: " + summary.no_tokenizer
                                                     : summary.tokenizer);
  for (const std::string& key : summary.config.unknown_keys)
    std::cout << fmt::format("  not read    config.json: {}, no key of Mixtral's\n", key);
  std::cout << fmt::format(
      "To train on: smoe train {}/config.yaml run.name=NAME train.init_from={} data.path=FILE \\\n"
      "               train.steps=N train.seq_len=N train.micro_batch=N train.global_batch=N\n",
      output, output);
}

int run_import(const ImportOptions& options) {
  ImportSummary summary;
  {
    Progress progress(std::cerr, ::isatty(STDERR_FILENO) == 1);
    summary = import_mixtral(options, [&](const char* part, std::int64_t done, std::int64_t total) {
      progress.update(part, done, total);
    });
  }
  print_summary(summary, options.output);
  return 0;
}

}  // namespace

Command add_import_command(CLI::App& app) {
  auto options = std::make_shared<ImportOptions>();
  CLI::App* command = app.add_subcommand("import", "Make a run of a Hugging Face Mixtral model");
  command
      ->add_option("FOLDER", options->folder,
                   "The model: config.json and model.safetensors, or shards and their index")
      ->required();
  command->add_option("RUN", options->output, "Folder to make, as `smoe train` leaves one")
      ->required();
  command->footer(
      "Reads weights in F32, BF16 and F16 and keeps them in F32. A setting that smoe does not "
      "have\n"
      "and a tensor that is missing or left over are errors.\n"
      "\n"
      "Examples:\n"
      "  smoe import models/mixtral runs/mixtral\n"
      "  smoe generate runs/mixtral --prompt 'The function returns'\n"
      "  smoe train configs/tuned.yaml train.init_from=runs/mixtral");
  return {command, [options] { return run_import(*options); }};
}

}  // namespace smoe
