#include "train/huggingface/import.h"

#include <cstring>
#include <set>

#include "core/device.h"
#include "core/state.h"
#include "core/system/folder.h"
#include "core/system/json_reader.h"
#include "core/system/text.h"
#include "layers/transformer.h"
#include "train/checkpoint/checkpoint_store.h"
#include "train/config/config.h"
#include "train/config/run_paths.h"
#include "train/huggingface/tokenizer_files.h"
#include "train/huggingface/weight_files.h"

namespace smoe {
namespace {

constexpr std::int64_t kMaxConfigJsonBytes = std::int64_t{4} << 20;

/// Refuses a config whose model exceeds the files, before a model of that size is constructed.
void check_counts(const ModelConfig& m, const WeightFiles& files, const std::string& folder) {
  const std::int64_t tensors = files.num_tensors();
  SMOE_CHECK(m.num_layers <= tensors && m.num_experts <= tensors / m.num_layers, folder,
             ": config.json says ", m.num_layers, " layers of ", m.num_experts,
             " experts, and the files have ", tensors, " tensors");
}

/// Whether a tensor holds nothing that the model does not have anyway: frequencies of the rotary
/// embedding, which are always recomputed, or a tied head that repeats the embedding.
bool is_redundant(const std::string& name, const ModelConfig& model, const WeightFiles& files) {
  if (name.ends_with(".rotary_emb.inv_freq")) return true;
  if (name != "lm_head.weight" || !model.tie_embeddings) return false;
  const std::string embedding = "model.embed_tokens.weight";
  if (!files.find(embedding) || files.find(embedding)->shape != files.find(name)->shape)
    return false;
  const Tensor head = files.read(name, DType::f32), table = files.read(embedding, DType::f32);
  return std::memcmp(head.data(), table.data(), static_cast<std::size_t>(head.bytes())) == 0;
}

/// Checks that the files hold exactly the tensors of the model, with their shapes.
void check_tensors(const Transformer& model, const WeightFiles& files, const std::string& folder) {
  std::int64_t num_found = 0;
  std::set<std::string> names;
  for (const Parameter* parameter : model.parameters()) {
    for (const ParameterPart& part : parameter->parts()) {
      const SafetensorsEntry* entry = files.find(part.name);
      SMOE_CHECK(entry, folder, ": must have all tensors of the model; ", part.name, " ",
                 part.shape, " is missing");
      SMOE_CHECK(entry->shape == part.shape, folder, ": ", part.name, ": must be ", part.shape,
                 " by config.json; got ", entry->shape);
      const bool is_read = entry->dtype == "F32" || entry->dtype == "BF16" ||
                           entry->dtype == "F16" || entry->dtype == "F64";
      SMOE_CHECK(is_read, folder, ": ", part.name, ": must be F64, F32, BF16 or F16; got ",
                 entry->dtype);
      names.insert(part.name);
      ++num_found;
    }
  }
  if (num_found == files.num_tensors()) return;
  for (const std::string& name : files.names())
    SMOE_CHECK(names.count(name) > 0 || is_redundant(name, model.config(), files), folder, ": ",
               printable(name), ": not a tensor of the model that config.json describes; ",
               files.num_tensors() - num_found, " of the files' tensors would be lost");
}

/// The configuration of a run at its last step: an imported model has no data and no schedule.
/// Further training must set these keys.
Config run_config(const MixtralConfig& imported, const std::string& output) {
  Config config;
  config.run.name = name_of_path(output);
  config.run.dir = parent_of(output);
  config.model = imported.model;
  config.data.path = "data/tokens.h5";
  config.train.steps = 1;
  config.train.seq_len = config.model.max_positions = imported.max_positions;
  config.train.micro_batch = config.train.global_batch = 1;
  return config;
}

Tensor rounded_to_f32(const Tensor& weights) {
  const auto values = weights.to_vector<double>();
  return Tensor::from(std::vector<float>(values.begin(), values.end()), weights.shape(),
                      Category::parameters);
}

/// Visits the model's weights part by part, reading each from the files when it is visited.
class WeightReader {
 public:
  WeightReader(const Transformer& model, const WeightFiles& files, const WeightProgress& progress)
      : model_(model), files_(files), progress_(progress) {}

  void visit(StateVisitor& visitor) {
    for (const Parameter* parameter : model_.parameters())
      for (const ParameterPart& part : parameter->parts()) {
        const bool is_f64 = files_.find(part.name)->dtype == "F64";
        Tensor weights = files_.read(part.name, is_f64 ? DType::f64 : DType::f32);
        if (is_f64) weights = rounded_to_f32(weights);
        visitor.tensor(part.name, weights);
        done_ += files_.find(part.name)->bytes;
        progress_("importing", done_, files_.bytes());
      }
  }

 private:
  const Transformer& model_;
  const WeightFiles& files_;
  const WeightProgress& progress_;
  std::int64_t done_ = 0;
};

}  // namespace

ImportSummary import_mixtral(const ImportOptions& options, const WeightProgress& progress) {
  const Stream host;  // files are read and written on the host
  const StreamGuard guard(host);
  const std::string config_path = options.folder + "/config.json";
  SMOE_CHECK(kind_of(config_path) == PathKind::file, options.folder,
             ": must be the folder of a Hugging Face model; it has no config.json");
  ImportSummary summary;
  summary.config = parse_mixtral_config(read_file(config_path, kMaxConfigJsonBytes), config_path);
  const WeightFiles files(options.folder);
  check_counts(summary.config.model, files, options.folder);
  const Transformer model(summary.config.model);
  check_tensors(model, files, options.folder);
  const auto [tokenizer, no_tokenizer] = read_tokenizer_files(options.folder);
  const std::int64_t vocab_size = summary.config.model.vocab_size;
  SMOE_CHECK(!tokenizer || tokenizer->vocab_size() <= vocab_size, options.folder,
             ": vocab_size must be that of its tokenizer or more, ", tokenizer->vocab_size(),
             "; got ", vocab_size);

  AtomicFolder output(options.output);
  const RunPaths run(output.temporary_path());
  const Config config = run_config(summary.config, output.path());
  const std::string checkpoint = run.checkpoints_path() + "/" + checkpoint_name(0);
  make_new_folder(run.checkpoints_path());
  CheckpointHeader header{.config = Digest::from_hex(config_digest(config))};
  if (tokenizer) header.tokenizer = tokenizer->digest();
  write_checkpoint(checkpoint, header,
                   [&](StateVisitor& v) { WeightReader(model, files, progress).visit(v); });
  Checkpoint(checkpoint).verify();
  if (tokenizer)
    write_file_atomically(run.path() + "/" + tokenizer->file_name(), tokenizer->file_bytes());
  write_file_atomically(run.config_path(), to_yaml(config));
  output.commit();

  summary.num_tensors = files.num_tensors();
  summary.weight_bytes = files.bytes();
  summary.no_tokenizer = no_tokenizer;
  if (tokenizer) summary.tokenizer = tokenizer->summary();
  return summary;
}

}  // namespace smoe
