#include "train/config/schema.h"

#include <algorithm>
#include <cctype>
#include <limits>

#include "layers/layer_kinds.h"
#include "layers/mixture_of_attention.h"

namespace smoe {
namespace {

const Rule kAnything{"", [](const ValueRef&) { return true; }};

double number_in(const ValueRef& target) {
  const auto* integer = std::get_if<std::int64_t*>(&target);
  return integer != nullptr ? static_cast<double>(**integer) : *std::get<double*>(target);
}

Rule at_least(double low) {
  return {concat("at least ", low),
          [=](const ValueRef& target) { return number_in(target) >= low; }};
}

Rule above(double low) {
  return {concat("above ", low), [=](const ValueRef& target) { return number_in(target) > low; }};
}

Rule from_to(std::int64_t low, std::int64_t high) {
  return {concat("from ", low, " to ", high), [=](const ValueRef& target) {
            return number_in(target) >= static_cast<double>(low) &&
                   number_in(target) <= static_cast<double>(high);
          }};
}

Rule from_to_below(double low, double high) {
  return {concat("at least ", low, " and below ", high), [=](const ValueRef& target) {
            return number_in(target) >= low && number_in(target) < high;
          }};
}

Rule one_of(std::vector<std::string_view> names) {
  return {"one of " + listed(names), [names](const ValueRef& target) {
            return std::count(names.begin(), names.end(), *std::get<std::string*>(target)) > 0;
          }};
}

const Rule kNotEmpty{"non-empty text", [](const ValueRef& target) {
                       return !std::get<std::string*>(target)->empty();
                     }};

const Rule kNewFolder{"a folder's path; '~' is not expanded", [](const ValueRef& target) {
                        const std::string& path = *std::get<std::string*>(target);
                        return !path.empty() && !path.starts_with("~/");
                      }};

const Rule kFolderName{"a folder's name without '/'", [](const ValueRef& target) {
                         const std::string& name = *std::get<std::string*>(target);
                         return !name.empty() && name != "." && name != ".." &&
                                name.find('/') == std::string::npos;
                       }};

/// Sizes and counts: the product of two never overflows 64 bits.
const Rule kSize{"from 1 to 10^9", from_to(1, 1'000'000'000).holds};
const Rule kSizeOrZero{"from 0 to 10^9", from_to(0, 1'000'000'000).holds};

/// Limit over all layers: every expert needs host objects before memory is allocated.
constexpr std::int64_t kMaxExperts = 1'000'000;

/// Approximate number of parameters; the exact model_size would overflow here.
double parameters_of(const ModelConfig& m) {
  const auto product = [](auto... sizes) { return (1.0 * ... * static_cast<double>(sizes)); };
  return product(m.vocab_size, m.d_model) +
         product(m.num_layers, 4, m.d_model, m.num_heads, m.head_dim) +
         product(m.num_layers, 3, m.d_model, m.d_expert, m.num_experts + m.num_shared_experts);
}

/// The multiples of `unit` nearest to `value`, for messages: "6 or 9".
std::string nearest_multiples(std::int64_t value, std::int64_t unit) {
  const std::int64_t below = value / unit * unit;
  return below == 0 ? concat(unit) : concat(below, " or ", below + unit);
}

const Names<Activation> kActivations = {{"swiglu", Activation::swiglu},
                                        {"geglu", Activation::geglu},
                                        {"relu2", Activation::relu2},
                                        {"gelu", Activation::gelu}};
const Names<RouterScore> kScores = {{"softmax_topk_renorm", RouterScore::softmax_topk_renorm},
                                    {"softmax_topk", RouterScore::softmax_topk},
                                    {"topk_softmax", RouterScore::topk_softmax},
                                    {"sigmoid", RouterScore::sigmoid}};
const Names<DType> kPrecisions = {
    {"fp32", DType::f32}, {"bf16", DType::bf16}, {"fp64", DType::f64}};
const Names<DType> kStorage = {{"fp32", DType::f32}, {"bf16", DType::bf16}};
const Names<Recompute> kRecomputes = {
    {"none", Recompute::none}, {"experts", Recompute::experts}, {"block", Recompute::block}};
const Names<NonfinitePolicy> kPolicies = {{"skip", NonfinitePolicy::skip},
                                          {"stop", NonfinitePolicy::stop},
                                          {"rollback", NonfinitePolicy::rollback}};
const Names<InitParts> kInitParts = {{"weights", InitParts::weights},
                                     {"optimizer", InitParts::optimizer}};
const Names<bool> kZeroStages = {{"0", false}, {"1", true}};
const Names<Transport> kTransports = {
    {"auto", Transport::automatic}, {"nccl", Transport::nccl}, {"copy", Transport::copy}};
const Names<ScheduleKind> kSchedules = {{"cosine", ScheduleKind::cosine},
                                        {"wsd", ScheduleKind::wsd},
                                        {"linear", ScheduleKind::linear},
                                        {"constant", ScheduleKind::constant}};

std::vector<std::string_view> kind_names(LayerPart part) {
  std::vector<std::string_view> names;
  for (const LayerKind& kind : layer_kinds(part)) names.push_back(kind.name);
  return names;
}

ValueRef reference_to(KindValue& value) {
  return std::visit([](auto& v) -> ValueRef { return &v; }, value);
}

/// The fields of a kind of attention or MLP, and of its own settings, which `config` gets where it
/// lacks them, instead of those of another kind.
std::vector<Field> kind_fields(LayerPart part, const std::string& section, std::string_view meaning,
                               const char* first, KindConfig& config) {
  std::vector<Field> fields = {{section + ".kind", &config.kind, one_of(kind_names(part)), meaning,
                                Resume::must_match, first}};
  const LayerKind* const kind = find_layer_kind(part, config.kind);
  if (!kind) return fields;
  std::erase_if(config.settings, [&](const auto& given) {  // of another kind
    return std::none_of(kind->settings.begin(), kind->settings.end(),
                        [&](const KindSetting& setting) { return setting.name == given.first; });
  });
  for (const KindSetting& setting : kind->settings) {
    KindValue& value = config.settings.emplace(setting.name, setting.value).first->second;
    const bool is_number =
        std::holds_alternative<std::int64_t>(value) || std::holds_alternative<double>(value);
    const bool is_bounded = is_number && setting.at_least > std::numeric_limits<double>::lowest();
    KindValue first = setting.value;
    fields.push_back({concat(section, ".", setting.name), reference_to(value),
                      is_bounded ? at_least(setting.at_least) : kAnything, setting.meaning,
                      Resume::must_match, to_yaml(reference_to(first))});
  }
  return fields;
}

constexpr std::size_t kMaxSources = 64;

/// Inserts the fields of attention and MLP before those of the router.
void add_kind_fields(ModelConfig& model, std::vector<Field>& fields) {
  const auto place = std::find_if(fields.begin(), fields.end(), [](const Field& field) {
    return field.key.starts_with("model.router.");
  });
  std::vector<Field> kinds = kind_fields(LayerPart::attention, "model.attention",
                                         "attention of every layer", "\"gqa\"", model.attention);
  for (Field& field : kind_fields(LayerPart::mlp, "model.mlp", "MLP of every layer; moe: experts",
                                  "\"moe\"", model.mlp))
    kinds.push_back(std::move(field));
  fields.insert(place, kinds.begin(), kinds.end());
}

/// Inserts the fields of the sources after those of data.
void add_source_fields(std::vector<DataSource>& sources, std::vector<Field>& fields) {
  auto place = std::find_if(fields.begin(), fields.end(),
                            [](const Field& field) { return field.key == "data.validation"; });
  for (DataSource& source : sources) {
    const std::string section = concat(kSourcesSection, ".", source.name);
    place = fields.insert(
        place + 1, {section + ".path", &source.path, kNotEmpty, "token set", Resume::may_change});
    place = fields.insert(
        place + 1, {section + ".weight", &source.weight, above(0),
                    "share of the samples, relative to the other weights", Resume::with_consent});
  }
}

}  // namespace

std::vector<Field> fields_of(Config& config) {
  constexpr Resume kMayChange = Resume::may_change, kWithConsent = Resume::with_consent;
  auto& [run, model, data, train, optim, schedule, parallel, checkpoint, log, profile] = config;
  RouterConfig& router = model.router;
  // clang-format off
  std::vector<Field> fields = {
      {"run.name", &run.name, kFolderName, "name of the run; it writes to run.dir/run.name", kMayChange},
      {"run.dir", &run.dir, kNewFolder, "parent folder of runs", kMayChange},
      {"run.seed", &run.seed, at_least(0), "seed of all random numbers"},
      {"run.device", &run.device, one_of({"auto", "cuda", "cpu"}), "auto: GPU if available, else CPU", kMayChange},
      {"run.threads", &run.threads, from_to(0, 1024), "CPU threads; 0: one per core, divided among the local ranks", kMayChange},

      {"model.vocab_size", &model.vocab_size, kSizeOrZero, "0: that of the token set"},
      {"model.num_layers", &model.num_layers, kSize, "number of transformer layers"},
      {"model.d_model", &model.d_model, kSize, "width of the residual stream"},
      {"model.num_heads", &model.num_heads, kSize, "query heads of a token; with moa those of its experts together"},
      {"model.num_kv_heads", &model.num_kv_heads, kSize, "key and value heads"},
      {"model.head_dim", &model.head_dim, kSize, "width of each head"},
      {"model.d_expert", &model.d_expert, kSize, "hidden width of each expert"},
      {"model.num_experts", &model.num_experts, kSize, "experts per layer"},
      {"model.top_k", &model.top_k, kSize, "experts per token"},
      {"model.num_shared_experts", &model.num_shared_experts, kSizeOrZero, "experts applied to every token"},
      {"model.activation", choice(model.activation, kActivations), kAnything, "activation of the experts"},
      {"model.tie_embeddings", &model.tie_embeddings, kAnything, "share the embedding with the output head"},
      {"model.rope_theta", &model.rope_theta, at_least(1), "base of the rotary embedding"},
      {"model.norm_epsilon", &model.norm_epsilon, above(0), "epsilon of RMSNorm"},
      {"model.init_std", &model.init_std, above(0), "standard deviation of the initial embeddings"},
      {"model.max_positions", &model.max_positions, kSizeOrZero, "context length of an imported model, which export keeps; 0: train.seq_len", kMayChange},
      {"model.train_only", &model.train_only, kAnything, "train only parameters whose name contains this text, on top of a base; empty: all", Resume::must_match, "\"\""},
      {"model.router.score", choice(router.score, kScores), kAnything, "function from router logits to gates"},
      {"model.router.balance_loss", &router.balance_loss, at_least(0), "coefficient of the load-balancing loss: a mean over routers (one in each layer, two with moa), 1 at perfect balance, per micro-batch", kWithConsent},
      {"model.router.z_loss", &router.z_loss, at_least(0), "coefficient of the z-loss, mean(logsumexp(logits)^2)", kWithConsent},
      {"model.router.jitter", &router.jitter, from_to_below(0, 1), "relative noise on the router input in training", kWithConsent},
      {"model.router.selection_bias_rate", &router.selection_bias_rate, at_least(0), "update rate of the selection bias; 0: no bias; cannot change between 0 and another value", kWithConsent},

      {"data.path", &data.path, kAnything, "token set; empty: use data.sources; one with other contents needs --change data.path", kMayChange},
      {"data.validation", &data.validation, kAnything, "token set; empty: the validation splits of the training sets", kMayChange},

      {"train.steps", &train.steps, kSize, "optimizer steps in total", kWithConsent},
      {"train.seq_len", &train.seq_len, kSize, "tokens per sequence"},
      {"train.micro_batch", &train.micro_batch, kSize, "sequences per forward and backward pass", kWithConsent},
      {"train.global_batch", &train.global_batch, kSize, "sequences per optimizer step", kWithConsent},
      {"train.precision", choice(train.precision, kPrecisions), kAnything, "compute precision"},
      {"train.grad_dtype", choice(train.grad_dtype, kStorage), kAnything, "storage of gradients; bf16 saves 2 bytes per parameter and halves what ranks send of them", kMayChange},
      {"train.recompute", choice(train.recompute, kRecomputes), kAnything, "activations recomputed in backward, to save memory", kMayChange},
      {"train.recompute_layers", &train.recompute_layers, kSizeOrZero, "layers, from the first, in which train.recompute applies; 0: all", kMayChange},
      {"train.deterministic", &train.deterministic, kAnything, "bit-identical results in every run; false: faster on GPUs", kMayChange},
      {"train.init_from", &train.init_from, kAnything, "run or checkpoint with the initial weights, or the base; empty: random", kWithConsent},
      {"train.init_parts", choice(train.init_parts, kInitParts), kAnything, "what train.init_from gives: weights, or also the optimizer's moments", kMayChange},
      {"train.eval_every", &train.eval_every, kSizeOrZero, "steps between validations; 0: only after the last step", kMayChange},
      {"train.eval_batches", &train.eval_batches, kSizeOrZero, "micro-batches per validation; 0: all", kMayChange},
      {"train.on_nonfinite", choice(train.on_nonfinite, kPolicies), kAnything, "reaction to a NaN or infinite loss or gradient norm", kMayChange},
      {"train.max_nonfinite", &train.max_nonfinite, kSize, "consecutive non-finite steps that end the run", kMayChange},

      {"optim.lr", &optim.lr, above(0), "peak learning rate", kWithConsent},
      {"optim.beta1", &optim.beta1, from_to_below(0, 1), "decay of the first moment", kWithConsent},
      {"optim.beta2", &optim.beta2, from_to_below(0, 1), "decay of the second moment", kWithConsent},
      {"optim.epsilon", &optim.epsilon, above(0), "added to the square root of the second moment", kWithConsent},
      {"optim.weight_decay", &optim.weight_decay, at_least(0), "decoupled weight decay; not applied to norm weights", kWithConsent},
      {"optim.clip_norm", &optim.clip_norm, at_least(0), "maximum global gradient norm; 0: no clipping", kWithConsent},
      {"optim.moments", choice(optim.moments, kStorage), kAnything, "storage of both moments; bf16 saves 4 bytes per parameter", kMayChange},

      {"schedule.kind", choice(schedule.kind, kSchedules), kAnything, "decay of the learning rate after warm-up", kWithConsent},
      {"schedule.warmup_steps", &schedule.warmup_steps, kSizeOrZero, "steps of linear warm-up from 0 to the peak", kWithConsent},
      {"schedule.min_ratio", &schedule.min_ratio, from_to(0, 1), "final learning rate / peak", kWithConsent},
      {"schedule.decay_fraction", &schedule.decay_fraction, from_to(0, 1), "wsd: share of all steps in the final decay", kWithConsent},

      {"parallel.zero", choice(parallel.zero, kZeroStages), kAnything, "ZeRO stage; 1: shard the optimizer state over the ranks", kMayChange},
      {"parallel.transport", choice(parallel.transport, kTransports), kAnything, "between GPUs; copy: peer copies within one host; auto: copy where possible, else nccl", kMayChange},
      {"parallel.bucket_mb", &parallel.bucket_mb, from_to(0, 1024), "MiB of gradients per all-reduce; 0: 256 on GPUs, 32 on CPUs", kMayChange},
      {"parallel.check_every", &parallel.check_every, kSizeOrZero, "steps between comparisons of the ranks' state; 0: never", kMayChange},
      {"parallel.timeout_s", &parallel.timeout_s, kSizeOrZero, "seconds to wait for another rank; 0: derived from the step time", kMayChange},

      {"checkpoint.every", &checkpoint.every, kSizeOrZero, "steps between checkpoints; 0: only by time and after the last step", kMayChange},
      {"checkpoint.every_minutes", &checkpoint.every_minutes, at_least(0), "minutes from the end of a save to the next one, at any step; 0: none", kMayChange},
      {"checkpoint.keep", &checkpoint.keep, at_least(1), "newest checkpoints to keep", kMayChange},
      {"checkpoint.keep_every", &checkpoint.keep_every, kSizeOrZero, "also keep every checkpoint at a multiple of this step; 0: none", kMayChange},
      {"checkpoint.keep_best", &checkpoint.keep_best, kAnything, "also save and keep the checkpoint with the lowest validation loss", kMayChange},
      {"checkpoint.async", &checkpoint.async, kAnything, "save in the background while training continues", kMayChange},
      {"checkpoint.resume", &checkpoint.resume, kNotEmpty, "auto: newest checkpoint; none: start from step 0; or a checkpoint's folder", kMayChange},

      {"log.every", &log.every, kSize, "steps between log lines", kMayChange},
      {"log.tensorboard", &log.tensorboard, kAnything, "also write events for TensorBoard", kMayChange},

      {"profile.every", &profile.every, kSizeOrZero, "steps between profiles of a few steps, in the run's profile/; 0: none", kMayChange},
      {"profile.steps", &profile.steps, kSize, "steps of such a profile; a validation or save ends it early", kMayChange},
  };
  // clang-format on
  add_kind_fields(model, fields);
  add_source_fields(data.sources, fields);
  return fields;
}

bool is_kind_key(std::string_view key) {
  return key == "model.attention.kind" || key == "model.mlp.kind";
}

std::string add_source_of(std::string_view key, Config& config) {
  const std::string prefix = concat(kSourcesSection, ".");
  if (!key.starts_with(prefix)) return "";
  const std::string_view rest = key.substr(prefix.size());
  const std::string_view name = rest.substr(0, rest.find('.'));
  const bool is_name = !name.empty() && name.size() <= 64 &&
                       std::all_of(name.begin(), name.end(), [](unsigned char c) {
                         return std::isalnum(c) || c == '_' || c == '-';
                       });
  if (!is_name) return "a name of letters, digits, - and _, at most 64 of them";
  std::vector<DataSource>& sources = config.data.sources;
  const bool is_there = std::any_of(sources.begin(), sources.end(),
                                    [&](const DataSource& source) { return source.name == name; });
  if (is_there) return "";
  if (sources.size() == kMaxSources) return concat("one of at most ", kMaxSources, " sources");
  sources.push_back({std::string(name), "", 0});
  return "";
}

namespace {

/// ", or train.micro_batch=4", the largest one that lets ranks share the batch as it is, if any.
std::string smaller_micro_batch(const TrainConfig& train, int num_ranks) {
  if (train.global_batch % num_ranks != 0) return "";
  const std::int64_t sequences = train.global_batch / num_ranks;
  std::int64_t micro_batch = std::min(train.micro_batch, sequences);
  while (sequences % micro_batch != 0) --micro_batch;
  return concat(", or train.micro_batch=", micro_batch);
}

// What a mixture of attention asks of its settings beyond their own rules.
std::vector<Relation> mixture_relations(const ModelConfig& m) {
  if (m.attention.kind != "moa") return {};
  const MixtureOfAttention::Settings mixture(m.attention.settings);
  const std::int64_t unit = mixture.top_k * m.num_kv_heads;
  return {
      {"model.attention.num_experts", mixture.num_experts <= kMaxExperts / m.num_layers,
       concat("at most ", kMaxExperts / m.num_layers, ", with model.num_layers=", m.num_layers)},
      {"model.attention.top_k", mixture.top_k <= mixture.num_experts,
       concat("at most model.attention.num_experts=", mixture.num_experts)},
      {"model.num_heads", m.num_heads % unit == 0,
       concat("a multiple of model.attention.top_k * model.num_kv_heads=", unit, ", nearest ",
              nearest_multiples(m.num_heads, unit))}};
}

}  // namespace

Relation global_batch_relation(const TrainConfig& train, int num_ranks) {
  const std::int64_t unit = train.micro_batch * num_ranks;
  const std::string ranks = num_ranks == 1 ? "" : concat(" times the number of ranks, ", num_ranks);
  return {"train.global_batch", train.global_batch % unit == 0,
          concat("a multiple of train.micro_batch=", train.micro_batch, ranks, ", nearest ",
                 nearest_multiples(train.global_batch, unit),
                 num_ranks == 1 ? "" : smaller_micro_batch(train, num_ranks))};
}

std::vector<Relation> relations_of(const Config& c) {
  const ModelConfig& m = c.model;
  const TrainConfig& t = c.train;
  const auto steps = static_cast<double>(t.steps);
  const auto steps_after_warmup = static_cast<double>(t.steps - c.schedule.warmup_steps);
  const bool has_sources = !c.data.sources.empty();
  std::vector<Relation> relations = {
      {"model.num_experts", m.num_experts <= kMaxExperts / m.num_layers,
       concat("at most ", kMaxExperts / m.num_layers, ", with model.num_layers=", m.num_layers)},
      {"model.d_model", parameters_of(m) <= 1e15,
       "small enough for a model of at most 10^15 parameters"},
      {"data.path", c.data.path.empty() == has_sources,
       has_sources ? "empty, since data.sources names the token sets"
                   : "the path of a token set, unless data.sources names several"},
      {"model.num_heads", m.num_heads % m.num_kv_heads == 0,
       concat("a multiple of model.num_kv_heads=", m.num_kv_heads)},
      {"model.head_dim", m.head_dim % 2 == 0, "even, for rotary embeddings"},
      {"model.top_k", m.top_k <= m.num_experts,
       concat("at most model.num_experts=", m.num_experts)},
      {"model.router.selection_bias_rate",
       m.router.selection_bias_rate == 0 || m.router.score == RouterScore::sigmoid,
       "0 unless model.router.score is sigmoid"},
      global_batch_relation(t, 1),
      {"train.grad_dtype", t.grad_dtype != DType::bf16 || t.precision == DType::bf16,
       "fp32 unless train.precision is bf16"},
      {"train.recompute_layers", t.recompute_layers == 0 || t.recompute != Recompute::none,
       "0 with train.recompute=none"},
      {"train.recompute_layers", t.recompute_layers <= m.num_layers,
       concat("at most model.num_layers=", m.num_layers)},
      {"optim.moments", c.optim.moments != DType::bf16 || t.precision != DType::f64,
       "fp32 with train.precision=fp64, whose moments are fp64"},
      {"optim.moments", c.optim.moments != DType::bf16 || 1 - c.optim.beta2 >= 0x1p-7,
       concat("fp32 with optim.beta2=", c.optim.beta2,
              ", since bf16 rounds away changes of the second moment when optim.beta2 is above "
              "0.9921875")},
      {"train.on_nonfinite",
       t.on_nonfinite != NonfinitePolicy::rollback || c.checkpoint.every > 0 ||
           c.checkpoint.every_minutes > 0,
       "skip or stop without checkpoint.every and checkpoint.every_minutes"},
      {"checkpoint.keep_best", !c.checkpoint.keep_best || t.eval_every > 0,
       "false without train.eval_every"},
      {"schedule.warmup_steps", c.schedule.warmup_steps <= t.steps,
       concat("at most train.steps=", t.steps)},
      {"schedule.decay_fraction",
       c.schedule.kind != ScheduleKind::wsd ||
           c.schedule.decay_fraction * steps <= steps_after_warmup,
       concat("at most ", steps_after_warmup / steps, ", the share of steps after the warm-up")},
      {"profile.steps", c.profile.every == 0 || c.profile.steps < c.profile.every,
       concat("less than profile.every=", c.profile.every)},
      {"checkpoint.keep_every",
       c.checkpoint.keep_every == 0 ||
           (c.checkpoint.every > 0 && c.checkpoint.keep_every % c.checkpoint.every == 0),
       c.checkpoint.every == 0 ? "0 without checkpoint.every"
                               : concat("a multiple of checkpoint.every=", c.checkpoint.every)},
  };
  for (Relation& relation : mixture_relations(m)) relations.push_back(std::move(relation));
  return relations;
}

}  // namespace smoe
