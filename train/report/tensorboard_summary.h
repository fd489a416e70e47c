// The values of one step as TensorBoard's Summary message:
//   Summary { repeated Value value = 1 { string tag = 1; float simple_value = 2;
//                                        HistogramProto histo = 5; TensorProto tensor = 8;
//                                        SummaryMetadata metadata = 9; } }
// Source: tensorboard/compat/proto/{summary,histogram,tensor}.proto,
// plugins/hparams/plugin_data.proto.
#pragma once
#include <cstdint>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "train/report/protobuf_message.h"
#include "train/report/report.h"

namespace smoe {

/// Names and values of a run's settings.
using HyperParameters = std::vector<std::pair<std::string, std::variant<double, std::string>>>;

class TensorboardSummary {
 public:
  void scalar(const std::string& tag, double value);
  /// `counts`, one per bucket of width 1 from 0.
  void histogram(const std::string& tag, const std::vector<std::int64_t>& counts);
  /// Markdown.
  void text(const std::string& tag, const std::string& markdown);
  /// For the tab "HParams"; once per event file.
  void hyper_parameters(const HyperParameters& parameters, double start_time);

  bool empty() const { return summary_.text().empty(); }
  const ProtobufMessage& message() const { return summary_; }

 private:
  void add(const ProtobufMessage& value) { summary_.message(1, value); }

  ProtobufMessage summary_;
};

/// The values of a report by tag: "train/loss", "validation/bits_per_byte", "z_loss/layer_03", ...;
/// with `has_loads`, a histogram "expert_load/layer_03" of a layer's rows by expert. Empty for a
/// start and a change.
TensorboardSummary summary_of(const Report& report, bool has_loads);

}  // namespace smoe
