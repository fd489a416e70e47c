// `smoe generate RUN`: generates text with a trained model.
#include "train/generate/generate.h"

#include <fmt/format.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <iostream>
#include <iterator>
#include <memory>

#include "core/device.h"
#include "core/system/cores.h"
#include "core/system/format.h"
#include "core/system/text.h"
#include "kernels/threads.h"
#include "train/commands/arguments.h"
#include "train/commands/commands.h"
#include "train/load_model.h"

namespace smoe {
namespace {

struct GenerateFlags {
  std::string path, prompt;
  GenerateOptions generate;
};

// The prompt itself or, for "-", all of standard input without its final newline.
std::string prompt_text(const std::string& option) {
  if (option != "-") return option;
  std::string text(std::istreambuf_iterator<char>(std::cin), {});
  if (std::cin.bad()) throw SystemError("standard input: could not be read");
  if (text.ends_with('\n')) text.pop_back();
  return text;
}

// A model can write any bytes, and those that control a terminal must not reach one. A pipe or file
// receives the text as it is.
void write(const std::string& text) {
  static const bool is_terminal = ::isatty(STDOUT_FILENO) == 1;
  if (!text.empty() && !(std::cout << (is_terminal ? terminal_text(text) : text) << std::flush))
    throw SystemError("standard output: could not be written");
}

const char* describe(GenerateSummary::Ending ending) {
  constexpr const char* kDescriptions[] = {"stopped at --max-tokens", "reached the end of text",
                                           "stopped at --stop"};
  return kDescriptions[static_cast<int>(ending)];
}

std::string summary_line(const GenerateSummary& summary) {
  const double rate = static_cast<double>(summary.tokens) / summary.tokens_s;
  return fmt::format("prompt {} in {}; generated {} in {}, {:.1f} tokens/s; {}",
                     counted(summary.prompt_tokens, "token"), format_duration(summary.prompt_s),
                     counted(summary.tokens, "token"), format_duration(summary.tokens_s), rate,
                     describe(summary.ending));
}

int run_generate(GenerateFlags options) {
  kernels::cpu::set_num_threads(num_usable_cores());
  const Stream stream(select_device("auto"));
  const StreamGuard guard(stream);
  check_sampling(options.generate.sampling);
  const std::string prompt = prompt_text(options.prompt);
  LoadedModel loaded = load_model(options.path);
  SMOE_CHECK(loaded.tokenizer, options.path,
             ": has no tokenizer, which generating text needs; its model was imported without one");
  if (options.generate.context == 0) options.generate.context = loaded.config.train.seq_len;
  const std::int64_t trained =
      std::max(loaded.config.train.seq_len, loaded.config.model.max_positions);
  if (options.generate.context > trained)
    std::cerr << "smoe generate: --context " << options.generate.context << " exceeds the "
              << trained
              << " tokens that the model was trained with; text beyond them may be worse\n";
  write(prompt);
  const GenerateSummary summary =
      generate(loaded.model(), *loaded.tokenizer, prompt, options.generate, write);
  write("\n");
  std::cerr << summary_line(summary) << std::endl;
  return 0;
}

}  // namespace

Command add_generate_command(CLI::App& app) {
  auto options = std::make_shared<GenerateFlags>();
  GenerateOptions& generate = options->generate;
  CLI::App* command = app.add_subcommand("generate", "Generate text with a trained model");
  add_run_argument(*command, options->path);
  command
      ->add_option("--prompt", options->prompt,
                   "Text to continue; empty: a new document; '-': standard input without its final "
                   "newline")
      ->type_name("TEXT");
  add_option(*command, "--max-tokens", generate.max_tokens, "N",
             "Maximum number of tokens to generate");
  add_option(*command, "--temperature", generate.sampling.temperature, "X",
             "Divides the logits; 0: greedy decoding");
  add_option(*command, "--top-k", generate.sampling.top_k, "K",
             "Sample among the k most probable tokens; 0: all");
  add_option(*command, "--top-p", generate.sampling.top_p, "P",
             "Sample among the most probable tokens whose total probability reaches P");
  add_option(*command, "--seed", generate.seed, "N", "The same seed generates the same text")
      ->check(CLI::NonNegativeNumber);
  command
      ->add_option("--stop", generate.stop_texts,
                   "Stop before this text; may be given several times")
      ->type_name("TEXT")
      ->expected(1)
      ->take_all();
  command
      ->add_option("--stop-token", generate.stop_tokens,
                   "Stop at the token with this id; may be given several times")
      ->type_name("ID")
      ->expected(1)
      ->take_all();
  add_option(*command, "--context", generate.context, "N",
             "Context length in tokens, including the prompt; 0: train.seq_len, beyond which "
             "positions are untrained");
  command->footer(
      "Streams the text to standard output and prints tokens per second to standard error. On a\n"
      "terminal, control characters are shown as \\xNN. Stops at the end of text, at --stop, at\n"
      "--stop-token or after --max-tokens. When the context is full, it continues from the newer\n"
      "half of it; a prompt longer than the context is an error.\n"
      "\n"
      "Examples:\n"
      "  smoe generate runs/tiny --prompt 'The function returns'\n"
      "  smoe generate runs/tiny/checkpoints/step-00000600 --temperature 0 --max-tokens 100\n"
      "  smoe generate runs/tiny --prompt - --stop $'\\n\\n' < question.txt");
  return {command, [options] { return run_generate(*options); }};
}

}  // namespace smoe
