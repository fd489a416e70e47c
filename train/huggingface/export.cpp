#include "train/huggingface/export.h"

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>

#include "core/device.h"
#include "core/state.h"
#include "core/system/folder.h"
#include "layers/transformer.h"
#include "train/huggingface/tokenizer_files.h"
#include "train/huggingface/weight_files.h"
#include "train/load_model.h"

namespace smoe {
namespace {

std::string generation_config_text(const HuggingFaceConfig& config) {
  nlohmann::ordered_json json = nlohmann::ordered_json::object();
  if (config.begin_token) json["bos_token_id"] = *config.begin_token;
  if (config.end_token) json["eos_token_id"] = *config.end_token;
  return json.dump(2) + "\n";
}

HuggingFaceConfig config_of(const StoredModel& stored) {
  HuggingFaceConfig config;
  config.family = family_of(stored.config.model);
  config.model = stored.config.model;
  config.max_positions = std::max(stored.config.train.seq_len, config.model.max_positions);
  if (stored.tokenizer) {
    config.begin_token = stored.tokenizer->begin_of_text();
    config.end_token = stored.tokenizer->end_of_text();
  }
  return config;
}

void check_finite(const StoredModel& stored, const std::string& name, const Tensor& weights) {
  const bool is_finite = dispatch_floating(weights.dtype(), [&](auto type) {
    const auto* const values = weights.data_as<decltype(type)>();
    return std::all_of(values, values + weights.numel(),
                       [](auto value) { return std::isfinite(static_cast<double>(value)); });
  });
  SMOE_CHECK(
      is_finite, stored.checkpoint.path(), ": ", name,
      " has NaN or infinite weights, with which a model computes nothing; export an earlier ",
      "checkpoint");
}

/// The elements of a parameter, in the master dtype: [numel].
Tensor read_weights(const StoredModel& stored, const Parameter& parameter) {
  const Tensor weights = Tensor::empty(
      {parameter.numel()}, accumulation_dtype(stored.config.train.precision), Category::parameters);
  stored.checkpoint.load_part([&](StateVisitor& visitor) {
    std::int64_t begin = 0;
    for (const ParameterPart& part : parameter.parts()) {
      Tensor view = weights.view(begin, part.shape);
      visitor.tensor(part.name, view);
      begin += part.shape.numel();
    }
  });
  return weights;
}

/// Copies the parameters from the checkpoint to `writer`, one at a time.
void write_weights(const StoredModel& stored, const Transformer& model, ModelFamily family,
                   WeightFilesWriter& writer, const WeightProgress& progress) {
  std::int64_t done = 0, total = 0;
  for (const Parameter* parameter : model.parameters()) total += parameter->numel();
  const std::int64_t size = size_of(accumulation_dtype(stored.config.train.precision));
  for (const Parameter* parameter : model.parameters()) {
    const Tensor weights = read_weights(stored, *parameter);
    std::int64_t begin = 0;
    for (const ParameterPart& tensor : file_tensors(family, *parameter)) {
      const Tensor values = weights.view(begin, tensor.shape);
      check_finite(stored, tensor.name, values);
      writer.write(tensor.name, values);
      begin += tensor.shape.numel();
    }
    done += parameter->numel();
    progress("exporting", done * size, total * size);
  }
}

}  // namespace

ExportSummary export_model(const ExportOptions& options, const WeightProgress& progress) {
  const Stream host;  // files are read and written on the host
  const StreamGuard guard(host);
  const StoredModel stored = open_model(options.path);
  ExportSummary summary;
  summary.config = config_of(stored);
  summary.step = stored.checkpoint.manifest().step;
  const std::string config_text = model_config_text(summary.config, options.dtype);
  const Transformer model(stored.config.model);
  const ModelFamily family = summary.config.family;
  std::vector<ParameterPart> tensors;
  for (const Parameter* parameter : model.parameters())
    for (const ParameterPart& tensor : file_tensors(family, *parameter)) tensors.push_back(tensor);
  const std::vector<ParameterPart> zeros = zero_tensors(summary.config);
  tensors.insert(tensors.end(), zeros.begin(), zeros.end());

  AtomicFolder output(options.output);
  const std::string& folder = output.temporary_path();
  WeightFilesWriter writer(folder, tensors, options.dtype, options.max_shard_bytes);
  write_weights(stored, model, family, writer, progress);
  for (const ParameterPart& zero : zeros)
    writer.write(zero.name, Tensor::zeros(zero.shape, DType::f32, Category::parameters));
  writer.finish();
  write_file_atomically(folder + "/config.json", config_text);
  write_file_atomically(folder + "/generation_config.json", generation_config_text(summary.config));
  if (stored.tokenizer)
    summary.tokenizer_files =
        write_tokenizer_files(*stored.tokenizer, folder, summary.config.max_positions);
  output.commit();

  summary.num_tensors = static_cast<std::int64_t>(tensors.size());
  summary.weight_bytes = writer.bytes();
  summary.num_weight_files = writer.num_files();
  return summary;
}

}  // namespace smoe
