#include "train/huggingface/import.h"

#include <cstring>
#include <map>
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
void check_counts(const HuggingFaceConfig& config, const WeightFiles& files,
                  const std::string& folder) {
  const ModelConfig& m = config.model;
  // JetMoE's experts share a tensor, of at least two bytes each.
  const std::int64_t tensors = files.num_tensors();
  const std::int64_t most =
      config.family == ModelFamily::mixtral ? tensors / m.num_layers : files.bytes() / 2;
  SMOE_CHECK(m.num_layers <= tensors && m.num_experts <= most, folder, ": config.json says ",
             m.num_layers, " layers of ", m.num_experts, " experts, and the files have ", tensors,
             " tensors");
}

/// What a tensor is that holds nothing that the model does not have anyway; empty if it is not one.
std::string redundancy(const std::string& name, const ModelConfig& model,
                       const WeightFiles& files) {
  if (name.ends_with(".rotary_emb.inv_freq")) return "rotary_emb.inv_freq, which is recomputed";
  if (name != "lm_head.weight" || !model.tie_embeddings) return "";
  const std::string embedding = "model.embed_tokens.weight";
  if (!files.find(embedding) || files.find(embedding)->sizes != files.find(name)->sizes) return "";
  const Tensor head = files.read(name, DType::f32), table = files.read(embedding, DType::f32);
  const bool is_equal =
      std::memcmp(head.data(), table.data(), static_cast<std::size_t>(head.bytes())) == 0;
  return is_equal ? "lm_head.weight, which repeats the tied embedding" : "";
}

/// Checks that the files hold exactly the tensors of the model, with their shapes. Returns how many
/// are redundant, by what they are.
std::map<std::string, std::int64_t> check_tensors(const Transformer& model, ModelFamily family,
                                                  const WeightFiles& files,
                                                  const std::string& folder) {
  std::int64_t num_found = 0;
  std::set<std::string> names;
  for (const Parameter* parameter : model.parameters()) {
    for (const ParameterPart& part : file_tensors(family, *parameter)) {
      const SafetensorsEntry* entry = files.find(part.name);
      SMOE_CHECK(entry, folder, ": must have all tensors of the model; ", part.name, " ",
                 part.shape, " is missing");
      SMOE_CHECK(entry->shape() == part.shape, folder, ": ", part.name, ": must be ", part.shape,
                 " by config.json; got ", entry->shape_text());
      const bool is_read = entry->dtype == "F32" || entry->dtype == "BF16" ||
                           entry->dtype == "F16" || entry->dtype == "F64";
      SMOE_CHECK(is_read, folder, ": ", part.name, ": must be F64, F32, BF16 or F16; got ",
                 entry->dtype);
      names.insert(part.name);
      ++num_found;
    }
  }
  std::map<std::string, std::int64_t> redundant;
  if (num_found == files.num_tensors()) return redundant;
  for (const std::string& name : files.names()) {
    if (names.count(name) > 0) continue;
    const std::string what = redundancy(name, model.config(), files);
    SMOE_CHECK(!what.empty(), folder, ": ", printable(name),
               ": not a tensor of the model that config.json describes; ",
               files.num_tensors() - num_found, " of the files' tensors would be lost");
    ++redundant[what];
  }
  return redundant;
}

/// The configuration of a run at its last step: an imported model has no data and no schedule.
/// Further training must set these keys.
Config run_config(const HuggingFaceConfig& imported, const std::string& output) {
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

/// Visits the model's weights part by part, reading each parameter from the files when it is
/// visited.
class WeightReader {
 public:
  WeightReader(const Transformer& model, ModelFamily family, const WeightFiles& files,
               const WeightProgress& progress)
      : model_(model), family_(family), files_(files), progress_(progress) {}

  void visit(StateVisitor& visitor) {
    for (const Parameter* parameter : model_.parameters()) {
      const Tensor weights = read(*parameter);  // [numel]
      std::int64_t begin = 0;
      for (const ParameterPart& part : parameter->parts()) {
        Tensor view = weights.view(begin, part.shape);
        visitor.tensor(part.name, view);
        begin += part.shape.numel();
      }
    }
  }

 private:
  Tensor read(const Parameter& parameter) {
    const Tensor weights = Tensor::empty({parameter.numel()}, DType::f32, Category::parameters);
    std::int64_t begin = 0;
    for (const ParameterPart& tensor : file_tensors(family_, parameter)) {
      const bool is_f64 = files_.find(tensor.name)->dtype == "F64";
      Tensor values = files_.read(tensor.name, is_f64 ? DType::f64 : DType::f32);
      if (is_f64) values = rounded_to_f32(values);
      std::memcpy(weights.view(begin, tensor.shape).data(), values.data(),
                  static_cast<std::size_t>(values.bytes()));
      begin += tensor.shape.numel();
      done_ += files_.find(tensor.name)->bytes;
      progress_("importing", done_, files_.bytes());
    }
    return weights;
  }

  const Transformer& model_;
  ModelFamily family_;
  const WeightFiles& files_;
  const WeightProgress& progress_;
  std::int64_t done_ = 0;
};

}  // namespace

ImportSummary import_model(const ImportOptions& options, const WeightProgress& progress) {
  const Stream host;  // files are read and written on the host
  const StreamGuard guard(host);
  const std::string config_path = options.folder + "/config.json";
  SMOE_CHECK(kind_of(config_path) == PathKind::file, options.folder,
             ": must be the folder of a Hugging Face model; it has no config.json");
  ImportSummary summary;
  summary.config = parse_model_config(read_file(config_path, kMaxConfigJsonBytes), config_path);
  const ModelFamily family = summary.config.family;
  const WeightFiles files(options.folder);
  check_counts(summary.config, files, options.folder);
  const Transformer model(summary.config.model);
  summary.redundant = check_tensors(model, family, files, options.folder);
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
                   [&](StateVisitor& v) { WeightReader(model, family, files, progress).visit(v); });
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
