// `smoe generate RUN`: text from a trained model.
#include "train/generate/generate.h"

#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <iostream>
#include <iterator>
#include <memory>

#include "core/device.h"
#include "core/system/cores.h"
#include "core/system/format.h"
#include "kernels/threads.h"
#include "train/commands/commands.h"
#include "train/load_model.h"

namespace smoe {
namespace {

struct Options {
  std::string path, prompt;
  GenerateOptions generate;
};

// The prompt itself or, for "-", all of standard input without its last line break.
std::string prompt_text(const std::string& option) {
  if (option != "-") return option;
  std::string text(std::istreambuf_iterator<char>(std::cin), {});
  if (std::cin.bad()) throw SystemError("standard input: could not be read");
  if (text.ends_with('\n')) text.pop_back();
  return text;
}

void write(const std::string& text) {
  if (!text.empty() && !(std::cout << text << std::flush))
    throw SystemError("standard output: could not be written");
}

const char* words_for(GenerateSummary::Ending ending) {
  constexpr const char* kWords[] = {"stopped at --max-tokens", "the text ended",
                                    "stopped at --stop"};
  return kWords[static_cast<int>(ending)];
}

std::string summary_line(const GenerateSummary& summary) {
  const double rate = static_cast<double>(summary.tokens) / summary.tokens_s;
  return fmt::format("prompt {} in {}; wrote {} in {}, {:.1f} tokens/s; {}",
                     counted(summary.prompt_tokens, "token"), format_duration(summary.prompt_s),
                     counted(summary.tokens, "token"), format_duration(summary.tokens_s), rate,
                     words_for(summary.ending));
}

int run_generate(Options options) {
  kernels::cpu::set_num_threads(num_usable_cores());
  const Stream stream(select_device("auto"));
  const StreamGuard guard(stream);
  check_sampling(options.generate.sampling);
  const std::string prompt = prompt_text(options.prompt);
  LoadedModel loaded = load_model(options.path);
  SMOE_CHECK(loaded.tokenizer, options.path,
             ": has no tokenizer to read and write text with; its model was imported without one");
  const std::int64_t trained = loaded.config.train.seq_len;
  if (options.generate.context == 0) options.generate.context = trained;
  if (options.generate.context > trained)
    std::cerr << "smoe generate: --context " << options.generate.context << " is more than the "
              << trained
              << " tokens the model was trained on; what it writes past those may be worse\n";
  write(prompt);
  const GenerateSummary summary =
      generate(*loaded.model, *loaded.tokenizer, prompt, options.generate, write);
  write("\n");
  std::cerr << summary_line(summary) << std::endl;
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
      ->required()
      ->type_name("PATH");
  command
      ->add_option("--prompt", options->prompt,
                   "Text to continue; empty: begin a document; '-': read standard input, whose "
                   "last line break is left out")
      ->type_name("TEXT");
  command->add_option("--max-tokens", generate.max_tokens, "Tokens to write at most")
      ->type_name("N")
      ->capture_default_str();
  command
      ->add_option("--temperature", generate.sampling.temperature,
                   "Divides the logits; 0: always the likeliest token")
      ->type_name("X")
      ->capture_default_str();
  command->add_option("--top-k", generate.sampling.top_k, "Only the k likeliest tokens; 0: all")
      ->type_name("K")
      ->capture_default_str();
  command
      ->add_option("--top-p", generate.sampling.top_p,
                   "Only the likeliest tokens that together reach this probability")
      ->type_name("P")
      ->capture_default_str();
  command->add_option("--seed", generate.seed, "The same seed writes the same text")
      ->check(CLI::NonNegativeNumber)
      ->type_name("N")
      ->capture_default_str();
  command
      ->add_option("--stop", generate.stop_texts,
                   "End in front of this text; may be given several times")
      ->type_name("TEXT")
      ->expected(1)
      ->take_all();
  command
      ->add_option("--stop-token", generate.stop_tokens,
                   "End at the token of this id; may be given several times")
      ->type_name("ID")
      ->expected(1)
      ->take_all();
  command
      ->add_option(
          "--context", generate.context,
          "Tokens the model looks back on at most, prompt included; 0: train.seq_len, past "
          "which its positions are untrained")
      ->type_name("N")
      ->capture_default_str();
  command->footer(
      "The text goes to standard output as it is made, tokens per second to standard error. It "
      "ends\n"
      "at end of text, at --stop, at --stop-token or after --max-tokens. Where it outgrows the\n"
      "context, the model goes on from the newer half of it; a prompt that does not fit is an "
      "error.\n"
      "\n"
      "Examples:\n"
      "  smoe generate runs/tiny --prompt 'The function returns'\n"
      "  smoe generate runs/tiny/checkpoints/step-00000200 --temperature 0 --max-tokens 100\n"
      "  smoe generate runs/tiny --prompt - --stop $'\\n\\n' < question.txt");
  return {command, [options] { return run_generate(*options); }};
}

}  // namespace smoe
