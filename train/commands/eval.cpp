// `smoe eval RUN`: measures how well a trained model predicts text.
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <cmath>
#include <iostream>
#include <memory>
#include <nlohmann/json.hpp>
#include <span>

#include "core/device.h"
#include "core/system/cores.h"
#include "core/system/format.h"
#include "kernels/threads.h"
#include "train/commands/arguments.h"
#include "train/commands/commands.h"
#include "train/commands/with_progress.h"
#include "train/data/open_token_set.h"
#include "train/data/validation_sets.h"
#include "train/evaluate.h"
#include "train/load_model.h"

namespace smoe {
namespace {

struct EvalFlags {
  std::string path, data;
  EvaluateOptions evaluate;
  bool is_json = false;
};

using Sets = std::span<const ValidationSet>;

// The token set given by --data, or else the validation sets of the run.
std::vector<ValidationSet> open_sets(const EvalFlags& options, const LoadedModel& loaded) {
  std::vector<ValidationSet> sets;
  if (options.data.empty()) {
    try {
      sets = open_validation_sets(loaded.config.data, loaded.token_space);
    } catch (const UsageError& error) {
      throw UsageError(
          concat(options.path, ": ", error.what(), "; or name a token set with --data"));
    }
  } else {
    sets.push_back({"", open_token_set("--data", options.data, loaded.token_space)});
  }
  SMOE_CHECK(!sets.empty() && sets.front().set.num_tokens(Split::validation) > 1,
             options.data.empty() ? options.path : options.data,
             ": has no validation text; name a token set that has some with --data");
  return sets;
}

Evaluation run_evaluation(LoadedModel& loaded, const TokenSet& set,
                          const EvaluateOptions& options) {
  const double bytes_per_token = static_cast<double>(set.num_bytes(Split::validation)) /
                                 static_cast<double>(set.num_tokens(Split::validation));
  const auto bytes_of = [&](std::int64_t tokens) {
    return static_cast<std::int64_t>(static_cast<double>(tokens) * bytes_per_token);
  };
  return with_progress("", [&](const auto& show) {
    return evaluate(loaded.model(), set, options, [&](std::int64_t done, std::int64_t total) {
      show("evaluating", bytes_of(done), bytes_of(total));
    });
  });
}

void print_json(const EvalFlags& options, const LoadedModel& loaded, Sets sets,
                const Evaluation& e) {
  nlohmann::ordered_json json{{"model", options.path}, {"step", loaded.step}};
  for (const auto& [name, set] : sets) {
    json["data"].push_back(set.path());
    json["data_digest"].push_back(set.digest().hex());
  }
  if (sets.size() == 1)  // lists only for several sets
    for (const char* key : {"data", "data_digest"}) json[key] = json[key].front();
  json.update({{"seq_len", options.evaluate.seq_len},
               {"tokens", e.tokens},
               {"bytes", std::llround(e.bytes)},
               {"loss", e.loss()},
               {"perplexity", e.perplexity()},
               {"bits_per_byte", e.bits_per_byte()},
               {"seconds", e.seconds}});
  std::cout << json.dump() << "\n";
}

void print_lines(const EvalFlags& options, const LoadedModel& loaded, Sets sets,
                 const Evaluation& e) {
  std::int64_t all_tokens = 0;
  for (const auto& [name, set] : sets) all_tokens += set.num_tokens(Split::validation) - 1;
  const std::string& path = sets.front().set.path();
  std::cout << fmt::format(
      "{}, step {}, on {} of {}: {} for {}\n"
      "loss {:.4f}  perplexity {:.3f}  bits per byte {:.4f}  in {}, {} tokens/s\n",
      options.path, loaded.step,
      e.tokens == all_tokens ? "all validation text" : "a part of the validation text",
      sets.size() == 1 ? path : fmt::format("these {} sets", sets.size()),
      counted(e.tokens, "token"), counted(std::llround(e.bytes), "byte"), e.loss(), e.perplexity(),
      e.bits_per_byte(), format_duration(e.seconds),
      short_count(static_cast<double>(e.tokens) / e.seconds));
}

int run_eval(EvalFlags options) {
  kernels::cpu::set_num_threads(num_usable_cores());
  const Stream stream(select_device("auto"));
  const StreamGuard guard(stream);
  EvaluateOptions& evaluate = options.evaluate;
  SMOE_CHECK(evaluate.max_batches >= 0, "--batches: must be 0 or more; got ", evaluate.max_batches);
  SMOE_CHECK(evaluate.micro_batch >= 0, "--micro-batch: must be 0 or more; got ",
             evaluate.micro_batch);
  SMOE_CHECK(evaluate.seq_len >= 0, "--seq-len: must be 0 or more; got ", evaluate.seq_len);
  LoadedModel loaded = load_model(options.path);
  const std::vector<ValidationSet> sets = open_sets(options, loaded);
  for (const auto& [name, set] : sets) {
    const std::int64_t num_tokens = set.num_tokens(Split::validation);
    SMOE_CHECK(evaluate.seq_len < num_tokens, "--seq-len: must be below the ", num_tokens,
               " validation tokens of ", set.path(), "; got ", evaluate.seq_len);
  }
  if (evaluate.micro_batch == 0) evaluate.micro_batch = loaded.config.train.micro_batch;
  if (evaluate.seq_len == 0) evaluate.seq_len = loaded.config.train.seq_len;
  const auto print = options.is_json ? print_json : print_lines;
  Evaluation total;
  for (const ValidationSet& validation : sets) {
    const Evaluation part = run_evaluation(loaded, validation.set, evaluate);
    print(options, loaded, Sets(&validation, 1), part);
    total += part;
  }
  if (sets.size() > 1) print(options, loaded, sets, total);
  if (!std::isfinite(total.loss()))
    throw SystemError(concat(options.path, ": the loss is not finite; the weights of step ",
                             loaded.step, " may have NaN or infinite values"));
  return 0;
}

}  // namespace

Command add_eval_command(CLI::App& app) {
  auto options = std::make_shared<EvalFlags>();
  EvaluateOptions& evaluate = options->evaluate;
  CLI::App* command = app.add_subcommand("eval", "Measure the loss of a model on validation text");
  add_run_argument(*command, options->path);
  command
      ->add_option("--data", options->data,
                   "Token set with the validation split to predict; by default those of the run")
      ->type_name("FILE");
  add_option(*command, "--batches", evaluate.max_batches, "N",
             "Batches to evaluate, spread evenly over the split; 0: all");
  add_option(*command, "--micro-batch", evaluate.micro_batch, "N",
             "Sequences per batch; 0: train.micro_batch");
  add_option(*command, "--seq-len", evaluate.seq_len, "N", "Tokens per sequence; 0: train.seq_len");
  command->add_flag("--json", options->is_json,
                    "Print a JSON object per token set, and one for all of several, one per line");
  command->footer(
      "Loss is in nats per token, and perplexity is its exponential. Bits per byte relate the loss "
      "to\n"
      "the bytes of the text, which makes models with different tokenizers comparable.\n"
      "\n"
      "Examples:\n"
      "  smoe eval runs/tiny\n"
      "  smoe eval runs/tiny/checkpoints/step-00000600 --data data/other.h5\n"
      "  smoe eval runs/tiny --batches 32 --json");
  return {command, [options] { return run_eval(*options); }};
}

}  // namespace smoe
