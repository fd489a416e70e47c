// `smoe import FOLDER RUN`: converts a Hugging Face model to a run.
#include "train/huggingface/import.h"

#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <iostream>
#include <memory>

#include "core/system/cores.h"
#include "core/system/format.h"
#include "kernels/threads.h"
#include "layers/model_size.h"
#include "train/commands/commands.h"
#include "train/commands/with_progress.h"

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
  // Both count the tokens of one micro-batch.
  std::cout << fmt::format(
      "  balance     model.router.balance_loss={:g}, of a loss that is a mean over routers;\n"
      "              transformers' coefficient is {:g}, of one loss over the tokens of all "
      "layers\n",
      m.router.balance_loss, m.router.balance_loss / static_cast<double>(m.top_k));
  std::cout << fmt::format("  tokenizer   {}\n", summary.tokenizer.empty()
                                                     ? "none: " + summary.no_tokenizer
                                                     : summary.tokenizer);
  for (const auto& [what, count] : summary.redundant)
    std::cout << fmt::format("  ignored     {}: {}\n", counted(count, "tensor"), what);
  for (const std::string& key : summary.config.unknown_keys)
    std::cout << fmt::format("  ignored     config.json: {}, not a key of {}\n", key,
                             name_of(summary.config.family));
  std::cout << fmt::format(
      "To fine-tune: smoe train {}/config.yaml run.name=NAME train.init_from={} data.path=FILE \\\n"
      "               train.steps=N train.seq_len=N train.micro_batch=N train.global_batch=N\n",
      output, output);
}

int run_import(const ImportOptions& options) {
  kernels::cpu::set_num_threads(num_usable_cores());
  const ImportSummary summary =
      with_progress("; " + options.output + " was not written",
                    [&](const auto& show) { return import_model(options, show); });
  print_summary(summary, options.output);
  return 0;
}

}  // namespace

Command add_import_command(CLI::App& app) {
  auto options = std::make_shared<ImportOptions>();
  CLI::App* command =
      app.add_subcommand("import", "Convert a Hugging Face Mixtral or JetMoE model");
  command
      ->add_option("FOLDER", options->folder,
                   "The model: config.json and model.safetensors, or shards and their index")
      ->required();
  command->add_option("RUN", options->output, "Folder to create, like that of a trained run")
      ->required();
  command->footer(
      "Reads weights in F32, BF16 and F16 and stores them in F32. Unsupported settings and missing "
      "or\n"
      "unexpected tensors are errors.\n"
      "\n"
      "Examples:\n"
      "  smoe import models/mixtral runs/mixtral\n"
      "  smoe generate runs/mixtral --prompt 'The function returns'\n"
      "  smoe train runs/mixtral/config.yaml run.name=tuned data.path=data/mine.h5 "
      "train.init_from=runs/mixtral");
  return {command, [options] { return run_import(*options); }};
}

}  // namespace smoe
