#include "train/open_run.h"

#include <fmt/format.h>

#include "core/device.h"
#include "core/system/folder.h"
#include "core/system/format.h"
#include "kernels/engines.h"
#include "kernels/threads.h"
#include "layers/model_size.h"
#include "train/inject_faults.h"
#include "train/load_model.h"
#include "train/run_facts.h"

namespace smoe {
namespace {

std::int64_t num_tokens(const std::vector<ValidationSet>& sets) {
  std::int64_t total = 0;
  for (const ValidationSet& validation : sets)
    total += validation.set.num_tokens(Split::validation);
  return total;
}

void open_data(const Config& config, RunComponents& run) {
  run.training = std::make_unique<TrainingData>(TrainingData::open(config.data));
  run.config = config;
  // The vocabulary size is part of what a checkpoint must match.
  std::int64_t& vocab_size = run.config.model.vocab_size;
  if (vocab_size == 0) vocab_size = run.training->vocab_size();
  run.validation = open_validation_sets(config.data, run.training->token_space());
  SMOE_CHECK(config.train.eval_every == 0 || !run.validation.empty(), "train.eval_every: ",
             config.data.validation.empty() ? run.training->summary() : config.data.validation,
             " has no validation text; set it to 0");
}

void claim_folder(RunComponents& run) {
  const Config& config = run.config;
  run.folder = std::make_unique<RunFolder>(config.run.folder(), config.checkpoint.resume);
  run.reports = std::make_unique<RunReports>(*run.folder, config);
}

void build_model(RunComponents& run, Ranks& ranks) {
  run.trainer = std::make_unique<Trainer>(run.config, *run.training, ranks.communicator());
  run.trainer->set_observer(fault_observer());
  run.checkpoints =
      std::make_unique<CheckpointSaver>(run.config, *run.training, ranks, *run.trainer,
                                        [reports = run.reports.get()](const std::string& line) {
                                          if (reports) reports->say(line);
                                        });
}

void describe(const RunComponents& run, Ranks& ranks) {
  const Config& config = run.config;
  const ModelConfig& m = config.model;
  const ModelSize size = model_size(m);
  run.say(fmt::format(
      "{}: {} parameters, {} active; {} layers of width {}, {} experts of width {}, top {}",
      config.run.name, short_count(size.total), short_count(size.active), m.num_layers, m.d_model,
      m.num_experts, m.d_expert, m.top_k));
  run.say(fmt::format("data    {}: {} training tokens, {} for validation, vocabulary {}",
                      run.training->summary(), short_count(run.training->num_tokens(Split::train)),
                      short_count(num_tokens(run.validation)), m.vocab_size));
  const std::string num_ranks =
      ranks.are_several() ? fmt::format(", {} ranks", ranks.world_size()) : "";
  run.say(fmt::format("device  {}, {} threads{}; {} steps of {} tokens",
                      to_string(current_stream().device()), kernels::cpu::num_threads(), num_ranks,
                      config.train.steps, config.train.global_batch * config.train.seq_len));
  const AttentionShape attention{config.train.micro_batch, config.train.seq_len, m.num_heads,
                                 m.num_kv_heads, m.head_dim};
  const DType precision = config.train.precision;
  const kernels::ExpertLayer experts{m.num_experts, m.d_model, m.d_expert, m.activation, precision};
  run.say(fmt::format("kernels experts by {}, attention by {}",
                      kernels::expert_engine(launch(), experts),
                      kernels::attention_engine(launch(), attention, precision)));
  if (ranks.are_several()) run.say(fmt::format("ranks   {}", ranks.communicator().description()));
  run.say(fmt::format("folder  {}", config.run.folder()));
  if (!run.folder) return;
  for (const std::string& warning : run.folder->warnings()) run.say("warning " + warning);
}

// A checkpoint refuses another configuration by its digest only; this names the keys that differ.
void check_same_config(const RunComponents& run) {
  const RunFolder& folder = *run.folder;
  const bool resumes = run.config.checkpoint.resume == "auto" &&
                       kind_of(folder.checkpoints_path()) == PathKind::folder;
  if (!resumes || kind_of(folder.config_path()) != PathKind::file) return;
  const auto differences = resume_differences(load_config(folder.config_path()), run.config);
  SMOE_CHECK(differences.empty(), folder.path(), ": cannot resume with ", differences[0],
             differences.size() > 1 ? concat(", and ", differences.size() - 1, " more keys") : "",
             "; restore it, or choose another run.name");
}

// Weights are useless with another tokenizer. Keys of the model other than its sizes may change,
// for instance to extend the context, but each change is printed.
void initialize_from(const std::string& path, RunComponents& run) {
  const StoredModel from = open_model(path);
  const std::optional<Digest>& tokenizer = from.token_space.tokenizer;
  SMOE_CHECK(!tokenizer || tokenizer == run.training->token_space().tokenizer,
             "train.init_from: ", run.training->summary(), " must be made with the tokenizer of ",
             path, "; it was made with another one");
  from.checkpoint.load_part([&](StateVisitor& v) { run.trainer->visit_model(v); });
  run.trainer->state_loaded();
  run.say(fmt::format("weights from {}", from.checkpoint.path()));
  for (const std::string& difference : resume_differences(from.config, run.config))
    if (difference.starts_with("model.")) run.say(fmt::format("  {}", difference));
}

void load_state(RunComponents& run) {
  const Config& config = run.config;
  const auto step = run.checkpoints->load(config.checkpoint.resume);
  if (!step && !config.train.init_from.empty()) initialize_from(config.train.init_from, run);
}

// From here on the folder holds the run, so a refused start must have thrown before.
void begin_in_folder(const RunComponents& run) {
  run.folder->write_config(to_yaml(run.config));
  run.folder->write_tokenizer(*run.training->tokenizer());
  run.folder->write_readme();
  run.reports->begin_after(run.trainer->steps_done());
}

}  // namespace

std::unique_ptr<Run> open_run(const Config& config, Ranks& ranks) {
  RunComponents run;
  open_data(config, run);
  // Before the ranks meet, so that the others learn of a failure.
  if (ranks.is_first()) claim_folder(run);
  run.crash_trace = std::make_unique<CrashTrace>(run.folder ? run.folder->log_path() : "");
  if (ranks.are_several())
    ranks.join(run_facts(run.config, *run.training, run.validation), device_identity());
  build_model(run, ranks);
  if (ranks.is_first()) check_same_config(run);
  describe(run, ranks);
  load_state(run);
  if (ranks.is_first()) begin_in_folder(run);
  return std::make_unique<Run>(std::move(run), ranks);
}

}  // namespace smoe
