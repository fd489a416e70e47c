// `smoe eval RUN`: how well a trained model predicts text.
#include <fmt/format.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <cmath>
#include <iostream>
#include <memory>
#include <nlohmann/json.hpp>

#include "core/device.h"
#include "train/commands/commands.h"
#include "train/evaluate.h"
#include "train/load_model.h"
#include "train/report/console_line.h"
#include "train/report/format.h"
#include "train/report/progress.h"

namespace smoe {
namespace {

struct Options {
  std::string path, data;
  EvaluateOptions evaluate;
  bool is_json = false;
};

// The token set that is asked for, or else the one that the run was validated on.
TokenSet open_set(const Options& options, const LoadedModel& loaded) {
  const DataConfig& data = loaded.config.data;
  const std::string& path = !options.data.empty()      ? options.data
                            : !data.validation.empty() ? data.validation
                                                       : data.path;
  SMOE_CHECK(kind_of(path) != PathKind::none, options.data.empty() ? options.path : "--data",
             ": there is no ", path, "; name a token set with --data");
  TokenSet set = TokenSet::open(path);
  SMOE_CHECK(!loaded.tokenizer || set.tokenizer()->digest() == loaded.tokenizer->digest(), path,
             ": was made with another tokenizer than the model's; prepare the text again with it");
  SMOE_CHECK(set.num_tokens(Split::validation) > 1, path, ": has no validation text");
  return set;
}

Evaluation run_evaluation(LoadedModel& loaded, const TokenSet& set,
                          const EvaluateOptions& options) {
  Progress progress(std::cerr, ::isatty(STDERR_FILENO) == 1);
  const double bytes_a_token = static_cast<double>(set.num_bytes(Split::validation)) /
                               static_cast<double>(set.num_tokens(Split::validation));
  const auto bytes_of = [&](std::int64_t tokens) {
    return static_cast<std::int64_t>(static_cast<double>(tokens) * bytes_a_token);
  };
  return evaluate(*loaded.model, set, options, [&](std::int64_t done, std::int64_t total) {
    progress.update("evaluating", bytes_of(done), bytes_of(total));
  });
}

void print_json(const Options& options, const LoadedModel& loaded, const TokenSet& set,
                const Evaluation& e) {
  const nlohmann::ordered_json json{{"model", options.path},
                                    {"step", loaded.step},
                                    {"data", set.path()},
                                    {"data_digest", set.digest().hex()},
                                    {"seq_len", options.evaluate.seq_len},
                                    {"tokens", e.tokens},
                                    {"bytes", std::llround(e.bytes)},
                                    {"loss", e.loss()},
                                    {"perplexity", e.perplexity()},
                                    {"bits_per_byte", e.bits_per_byte()},
                                    {"seconds", e.seconds}};
  std::cout << json.dump() << "\n";
}

void print_lines(const Options& options, const LoadedModel& loaded, const TokenSet& set,
                 const Evaluation& e) {
  const bool is_all = e.tokens == set.num_tokens(Split::validation) - 1;
  std::cout << fmt::format(
      "{}, step {}, on {} of {}: {} for {}\n"
      "loss {:.4f}  perplexity {:.3f}  bits per byte {:.4f}  in {}, {} tokens/s\n",
      options.path, loaded.step, is_all ? "all validation text" : "a part of the validation text",
      set.path(), counted(e.tokens, "token"), counted(std::llround(e.bytes), "byte"), e.loss(),
      e.perplexity(), e.bits_per_byte(), format_duration(e.seconds),
      short_count(static_cast<double>(e.tokens) / e.seconds));
}

int run_eval(Options options) {
  const Stream stream(select_device("auto"));
  const StreamGuard guard(stream);
  EvaluateOptions& evaluate = options.evaluate;
  SMOE_CHECK(evaluate.max_batches >= 0, "--batches: must be 0 or more; got ", evaluate.max_batches);
  SMOE_CHECK(evaluate.micro_batch >= 0, "--micro-batch: must be 0 or more; got ",
             evaluate.micro_batch);
  SMOE_CHECK(evaluate.seq_len >= 0, "--seq-len: must be 0 or more; got ", evaluate.seq_len);
  LoadedModel loaded = load_model(options.path);
  const TokenSet set = open_set(options, loaded);
  const std::int64_t num_tokens = set.num_tokens(Split::validation);
  SMOE_CHECK(evaluate.seq_len < num_tokens, "--seq-len: must be below the ", num_tokens,
             " validation tokens of ", set.path(), "; got ", evaluate.seq_len);
  if (evaluate.micro_batch == 0) evaluate.micro_batch = loaded.config.train.micro_batch;
  if (evaluate.seq_len == 0) evaluate.seq_len = loaded.config.train.seq_len;
  const Evaluation evaluation = run_evaluation(loaded, set, evaluate);
  (options.is_json ? print_json : print_lines)(options, loaded, set, evaluation);
  return 0;
}

}  // namespace

Command add_eval_command(CLI::App& app) {
  auto options = std::make_shared<Options>();
  EvaluateOptions& evaluate = options->evaluate;
  CLI::App* command = app.add_subcommand("eval", "Measure a trained model on validation text");
  command
      ->add_option("RUN", options->path,
                   "Folder of a run (its newest intact checkpoint), or of a checkpoint in one")
      ->required()
      ->type_name("PATH");
  command
      ->add_option("--data", options->data,
                   "Token set whose validation split is predicted; by default the run's own")
      ->type_name("FILE");
  command
      ->add_option("--batches", evaluate.max_batches,
                   "Batches to evaluate, spread evenly over the split; 0: all of it")
      ->type_name("N")
      ->capture_default_str();
  command
      ->add_option("--micro-batch", evaluate.micro_batch,
                   "Sequences at a time; 0: train.micro_batch")
      ->type_name("N")
      ->capture_default_str();
  command->add_option("--seq-len", evaluate.seq_len, "Tokens of a sequence; 0: train.seq_len")
      ->type_name("N")
      ->capture_default_str();
  command->add_flag("--json", options->is_json, "Print one JSON object instead of two lines");
  command->footer(
      "Loss is in nats a token, perplexity its exponential; bits per byte count the text's bytes, "
      "so\n"
      "that models with different tokenizers can be compared.\n"
      "\n"
      "Examples:\n"
      "  smoe eval runs/tiny\n"
      "  smoe eval runs/tiny/checkpoints/step-00000200 --data data/other.h5\n"
      "  smoe eval runs/tiny --batches 32 --json");
  return {command, [options] { return run_eval(*options); }};
}

}  // namespace smoe
