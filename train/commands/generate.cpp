// `smoe generate RUN`: text from a trained model.
#include "train/generate.h"

#include <CLI/CLI.hpp>
#include <iostream>
#include <memory>

#include "core/device.h"
#include "train/commands/commands.h"
#include "train/load_model.h"

namespace smoe {
namespace {

struct Options {
  std::string path, prompt;
  GenerateOptions generate;
};

int run_generate(Options options) {
  const Stream stream(select_device("auto"));
  const StreamGuard guard(stream);
  check_sampling(options.generate.sampling);
  LoadedModel loaded = load_model(options.path);
  options.generate.max_context = loaded.config.train.seq_len;
  std::cout << options.prompt;
  generate(*loaded.model, *loaded.tokenizer, options.prompt, options.generate,
           [](const std::string& text) { std::cout << text << std::flush; });
  std::cout << std::endl;
  return 0;
}

}  // namespace

Command add_generate_command(CLI::App& app) {
  auto options = std::make_shared<Options>();
  GenerateOptions& generate = options->generate;
  CLI::App* command = app.add_subcommand("generate", "Write text with a trained model");
  command
      ->add_option("RUN", options->path,
                   "Folder of a run (its newest intact checkpoint), or of a checkpoint in one")
      ->required();
  command->add_option("--prompt", options->prompt, "Text to continue; empty: begin a document");
  command->add_option("--max-tokens", generate.max_tokens, "Tokens to write at most")
      ->capture_default_str();
  command
      ->add_option("--temperature", generate.sampling.temperature,
                   "Divides the logits; 0: always the likeliest token")
      ->capture_default_str();
  command->add_option("--top-k", generate.sampling.top_k, "Only the k likeliest tokens; 0: all")
      ->capture_default_str();
  command
      ->add_option("--top-p", generate.sampling.top_p,
                   "Only the likeliest tokens that together reach this probability")
      ->capture_default_str();
  command->add_option("--seed", generate.seed, "The same seed writes the same text")
      ->capture_default_str();
  command->footer(
      "Examples:\n"
      "  smoe generate runs/tiny --prompt 'The function returns'\n"
      "  smoe generate runs/tiny/checkpoints/step-00000200 --temperature 0 --max-tokens 100");
  return {command, [options] { return run_generate(*options); }};
}

}  // namespace smoe
