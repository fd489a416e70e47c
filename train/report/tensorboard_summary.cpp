#include "train/report/tensorboard_summary.h"

#include <fmt/format.h>

namespace smoe {
namespace {

constexpr std::int64_t kFloat = 1, kString = 7;  // of enum DataType

ProtobufMessage tagged(const std::string& tag) {
  ProtobufMessage value;
  value.bytes(1, tag);
  return value;
}

/// SummaryMetadata of a plugin, with the plugin's own message.
ProtobufMessage metadata_of(const char* plugin, const ProtobufMessage& content = {}) {
  ProtobufMessage data, metadata;
  data.bytes(1, plugin);
  data.message(2, content);
  metadata.message(1, data);
  return metadata;
}

std::string packed(const std::vector<double>& values) {
  std::string bytes;
  for (const double value : values)
    ProtobufMessage::put_fixed(bytes, std::bit_cast<std::uint64_t>(value));
  return bytes;
}

void add_layers(TensorboardSummary& summary, const std::vector<LayerReport>& layers,
                bool has_loads) {
  for (std::size_t l = 0; l < layers.size(); ++l) {
    const LayerReport& layer = layers[l];
    const std::string name = layer.router.empty() ? fmt::format("layer_{:02}", l) : layer.router;
    summary.scalar("imbalance/" + name, layer.load.imbalance);
    summary.scalar("entropy/" + name, layer.load.entropy);
    summary.scalar("dead_experts/" + name, static_cast<double>(layer.load.dead));
    summary.scalar("balance_loss/" + name, layer.balance_loss);
    summary.scalar("z_loss/" + name, layer.z_loss);
    if (has_loads && !layer.expert_rows.empty())
      summary.histogram("expert_load/" + name, layer.expert_rows);
  }
}

void add(TensorboardSummary&, const StartReport&, bool) {}
void add(TensorboardSummary&, const ChangeReport&, bool) {}

void add(TensorboardSummary& summary, const StepReport& report, bool has_loads) {
  summary.scalar("train/loss", report.loss);
  summary.scalar("train/lr", report.lr);
  summary.scalar("train/grad_norm", report.grad_norm);
  summary.scalar("train/tokens", static_cast<double>(report.tokens));
  summary.scalar("train/tokens_per_s", report.tokens_per_s);
  summary.scalar("train/mfu", report.mfu);
  summary.scalar("train/balance_loss", report.balance_loss);
  summary.scalar("train/z_loss", report.z_loss);
  summary.scalar("train/imbalance", report.imbalance);
  summary.scalar("train/dead_experts", static_cast<double>(report.dead_experts));
  summary.scalar("train/skipped", report.is_skipped);
  for (int c = 0; c < kNumCategories; ++c)
    summary.scalar(fmt::format("memory_bytes/{}", name_of(static_cast<Category>(c))),
                   static_cast<double>(report.memory_bytes[c]));
  summary.scalar("memory_bytes/peak", static_cast<double>(report.peak_bytes));
  add_layers(summary, report.layers, has_loads);
}

void add(TensorboardSummary& summary, const ValidationReport& report, bool) {
  summary.scalar("validation/loss", report.loss);
  summary.scalar("validation/bits_per_byte", report.bits_per_byte);
  for (const SourceReport& source : report.sources) {
    summary.scalar("validation/loss/" + source.name, source.loss);
    summary.scalar("validation/bits_per_byte/" + source.name, source.bits_per_byte);
  }
}

}  // namespace

void TensorboardSummary::scalar(const std::string& tag, double value) {
  ProtobufMessage entry = tagged(tag);
  entry.real32(2, static_cast<float>(value));
  add(entry);
}

void TensorboardSummary::histogram(const std::string& tag,
                                   const std::vector<std::int64_t>& counts) {
  std::vector<double> limits, buckets;
  double num = 0, sum = 0, sum_of_squares = 0;
  for (std::size_t i = 0; i < counts.size(); ++i) {
    const auto count = static_cast<double>(counts[i]);
    const double middle = static_cast<double>(i) + 0.5;
    limits.push_back(static_cast<double>(i + 1));
    buckets.push_back(count);
    num += count;
    sum += count * middle;
    sum_of_squares += count * middle * middle;
  }
  ProtobufMessage histogram;
  histogram.real(1, 0);
  histogram.real(2, static_cast<double>(counts.size()));
  histogram.real(3, num);
  histogram.real(4, sum);
  histogram.real(5, sum_of_squares);
  histogram.bytes(6, packed(limits));
  histogram.bytes(7, packed(buckets));
  ProtobufMessage entry = tagged(tag);
  entry.message(5, histogram);
  add(entry);
}

void TensorboardSummary::text(const std::string& tag, const std::string& markdown) {
  ProtobufMessage tensor;
  tensor.integer(1, kString);
  tensor.message(2, {});  // a scalar
  tensor.bytes(8, markdown);
  ProtobufMessage entry = tagged(tag);
  entry.message(8, tensor);
  entry.message(9, metadata_of("text"));
  add(entry);
}

void TensorboardSummary::hyper_parameters(const HyperParameters& parameters, double start_time) {
  ProtobufMessage session;  // SessionStartInfo
  for (const auto& [name, value] : parameters) {
    ProtobufMessage one, pair;  // google.protobuf.Value, an entry of the map
    if (const auto* const number = std::get_if<double>(&value))
      one.real(2, *number);
    else
      one.bytes(3, std::get<std::string>(value));
    pair.bytes(1, name);
    pair.message(2, one);
    session.message(1, pair);
  }
  session.real(5, start_time);
  ProtobufMessage data;  // HParamsPluginData
  data.message(3, session);
  ProtobufMessage dimension, shape, tensor;  // the plugin requires one, whatever its value
  dimension.integer(1, 1);
  shape.message(2, dimension);
  tensor.integer(1, kFloat);
  tensor.message(2, shape);
  tensor.real32(5, 0);
  ProtobufMessage entry = tagged("_hparams_/session_start_info");
  entry.message(8, tensor);
  entry.message(9, metadata_of("hparams", data));
  add(entry);
}

TensorboardSummary summary_of(const Report& report, bool has_loads) {
  TensorboardSummary summary;
  std::visit([&](const auto& r) { add(summary, r, has_loads); }, report);
  return summary;
}

}  // namespace smoe
