#include "train/open_run.h"

#include <fmt/format.h>

#include <algorithm>

#include "core/device.h"
#include "core/system/folder.h"
#include "core/system/format.h"
#include "kernels/engines.h"
#include "kernels/threads.h"
#include "layers/model_size.h"
#include "train/checkpoint/contained_state.h"
#include "train/config/gate_rule.h"
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

// A model keeps its context length when it is trained further on shorter sequences.
void inherit_max_positions(RunComponents& run) {
  std::int64_t& max_positions = run.config.model.max_positions;
  const std::string own = run.config.run.folder(), from = run.config.train.init_from;
  for (const std::string& folder : {own, from, parent_of(parent_of(from))}) {
    if (max_positions > 0 || from.empty()) return;
    const std::string path = RunPaths(folder).config_path();
    if (kind_of(path) == PathKind::file) max_positions = load_config(path).model.max_positions;
  }
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
  if (size.trained < size.total)
    run.say(fmt::format("trained {} of the parameters; the others are the base",
                        short_count(size.trained)));
  run.say(fmt::format("data    {}: {} training tokens, {} for validation, vocabulary {}",
                      run.training->summary(), short_count(run.training->num_tokens(Split::train)),
                      short_count(num_tokens(run.validation)), m.vocab_size));
  const std::string num_ranks =
      ranks.are_several() ? fmt::format(", {} ranks", ranks.world_size()) : "";
  run.say(fmt::format("device  {}, {}{}; {} of {} tokens", to_string(current_stream().device()),
                      counted(kernels::cpu::num_threads(), "thread"), num_ranks,
                      counted(config.train.steps, "step"),
                      grouped(config.train.global_batch * config.train.seq_len)));
  const AttentionShape attention{
      config.train.micro_batch, config.train.seq_len, m.num_heads,
      m.num_kv_heads,           m.head_dim,           m.attention.kind == "moa"};
  const DType precision = config.train.precision;
  const kernels::ExpertLayer experts{m.num_experts, m.d_model, m.d_expert, m.activation, precision};
  run.say(fmt::format("kernels experts by {}, attention by {}",
                      kernels::expert_engine(launch(), experts),
                      kernels::attention_engine(launch(), attention, precision)));
  if (ranks.are_several()) run.say(fmt::format("ranks   {}", ranks.communicator().description()));
  run.say(fmt::format("folder  {}", config.run.folder()));
  if (has_constant_gate(m))
    run.say(
        "warning model.top_k is 1 with gates that sum to one: the router gets no gradient from "
        "the language loss; model.router.score=softmax_topk gives it one");
  if (!run.folder) return;
  for (const std::string& warning : run.folder->warnings()) run.say("warning " + warning);
}

// The checkpoint to load. A branch of another run resumes from its own once it has some.
std::string selection_of(const RunComponents& run, Ranks& ranks) {
  const std::string& resume = run.config.checkpoint.resume;
  const bool is_branch =
      resume != "auto" && resume != "none" &&
      !is_same_path(parent_of(resume), RunPaths(run.config.run.folder()).checkpoints_path());
  const bool has_begun = ranks.is_first() && is_branch && run.checkpoints->has_any();
  return ranks.broadcast(has_begun ? "auto" : resume);
}

// Weights are useless with another tokenizer.
void check_tokenizer(const StoredModel& from, const RunComponents& run) {
  const std::optional<Digest>& tokenizer = from.token_space.tokenizer;
  SMOE_CHECK(!tokenizer || tokenizer == run.training->token_space().tokenizer,
             "train.init_from: ", run.training->summary(), " must be made with the tokenizer of ",
             run.config.train.init_from, "; it was made with another one");
}

// What is not trained is in no checkpoint of this run, so a resumed one loads it too.
void load_base(RunComponents& run) {
  const StoredModel from = open_base(run.config.train.init_from);
  check_tokenizer(from, run);
  from.checkpoint.load_part([&](StateVisitor& v) { run.trainer->visit_base(v); });
  run.say(fmt::format("base    {}", from.checkpoint.path()));
}

// Keys of the model other than its sizes may change, for instance to extend the context, but each
// change is printed. What is trained on top of a base keeps its initial values where `path` lacks
// it.
void initialize_from(const std::string& path, RunComponents& run) {
  const StoredModel from = open_model(path);
  check_tokenizer(from, run);
  const bool has_optimizer = run.config.train.init_parts == InitParts::optimizer;
  const bool has_base = run.trainer->has_base();
  from.checkpoint.load_part([&](StateVisitor& visitor) {
    ContainedState contained(from.checkpoint.manifest(), visitor);
    StateVisitor& v = has_base ? contained : visitor;
    run.trainer->visit_model(v);
    if (has_optimizer) run.trainer->visit_optimizer(v);
  });
  run.trainer->state_loaded();
  run.say(fmt::format("weights{} from {}", has_optimizer ? " and moments" : "",
                      from.checkpoint.path()));
  for (const KeyChange& change : changes_between(from.config, run.config))
    if (change.key.starts_with("model."))
      run.say(
          fmt::format("  {}={}, it was trained with {}", change.key, change.after, change.before));
}

void load_state(RunComponents& run, const std::string& selection,
                const std::vector<std::string>& consent) {
  const std::string& from = run.config.train.init_from;
  if (run.trainer->has_base() && !from.empty()) load_base(run);
  const auto step = run.checkpoints->load(selection, consent);
  if (!step && !from.empty()) initialize_from(from, run);
}

// A process that died before its first checkpoint has recorded the changes that this one makes.
bool is_recorded(const RunHistory& history, const ChangeReport& report) {
  const std::vector<ChangeReport>& changes = history.changes();
  return std::any_of(changes.begin(), changes.end(), [&](const ChangeReport& recorded) {
    return recorded.step == report.step && recorded.changes == report.changes;
  });
}

void record_changes(const RunComponents& run) {
  const std::int64_t step = run.trainer->steps_done();
  const Config& trained = run.checkpoints->trained();
  ChangeReport report{.step = step, .steps = run.config.train.steps};
  for (const auto& [key, before, after] : run.checkpoints->changes())
    report.changes.push_back({key, before, after});
  if (report.changes.empty() || is_recorded(run.reports->history(), report)) return;
  run.reports->add(report);
  for (const std::string& line :
       consequences_of(run.checkpoints->changes(), trained, run.config, step))
    run.say(line);
}

// config.yaml, with the changes of the run as comments.
std::string config_text(const RunComponents& run) {
  std::string text = to_yaml(run.config);
  for (const ChangeReport& report : run.reports->history().changes())
    text += fmt::format("# changed after step {}: {}\n", report.step, summary_of(report));
  return text;
}

// From here on the folder holds the run, so a refused start must have thrown before.
void begin_in_folder(const RunComponents& run) {
  run.folder->write_tokenizer(*run.training->tokenizer());
  run.folder->write_readme();
  run.reports->begin_after(run.trainer->steps_done());
  record_changes(run);
  run.folder->write_config(config_text(run));
}

}  // namespace

std::unique_ptr<Run> open_run(const Config& config, Ranks& ranks,
                              const std::vector<std::string>& consent) {
  RunComponents run;
  open_data(config, run);
  inherit_max_positions(run);
  // Before the ranks meet, so that the others learn of a failure.
  if (ranks.is_first()) claim_folder(run);
  run.crash_trace = std::make_unique<CrashTrace>(run.folder ? run.folder->log_path() : "");
  if (ranks.are_several())
    ranks.join(run_facts(run.config, consent, *run.training, run.validation), device_identity());
  build_model(run, ranks);
  const std::string selection = selection_of(run, ranks);
  if (ranks.is_first()) run.checkpoints->check_changes(selection, consent);
  describe(run, ranks);
  load_state(run, selection, consent);
  if (ranks.is_first()) begin_in_folder(run);
  return std::make_unique<Run>(std::move(run), ranks);
}

}  // namespace smoe
