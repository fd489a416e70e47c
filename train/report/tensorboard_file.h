// Events for TensorBoard, in the one small part of its format that scalars need.
//
// A file is a row of records (TFRecord): length u64, masked CRC-32C of the length, data, masked
// CRC-32C of the data, all little-endian. Data is an Event message in protobuf's wire format:
//   Event   { double wall_time = 1; int64 step = 2; string file_version = 3;
//             Summary summary = 5 { repeated Value value = 1 { string tag = 1;
//                                                              float simple_value = 2; } };
//             SessionLog session_log = 7 { enum status = 1; } }
// Source: tensorflow/core/lib/io/record_writer.h, tensorboard/compat/proto/{event,summary}.proto.
//
// A process that goes on with a run begins a file of its own, named so that it is read after the
// ones before. Its second event says START at the first step to come: TensorBoard then drops what
// earlier files say of that step and later ones, so no step is shown twice.
#pragma once
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "core/system/file.h"
#include "train/report/metrics_line.h"

namespace smoe {

/// Names and values of one step.
using Scalars = std::vector<std::pair<std::string, double>>;

/// What TensorBoard shows of a report, as float: "train/loss", "validation/bits_per_byte",
/// "z_loss/layer_03", ... Empty for a start.
Scalars scalars_of(const Report& report);

/// `data` in the frame of a record.
std::string tensorboard_record(std::string_view data);
/// An Event with one Value for each scalar.
std::string tensorboard_event(double wall_time, std::int64_t step, const Scalars& scalars);

/// One file of events of a run.
class TensorboardFile {
 public:
  /// Makes a new file in `folder` for a process that goes on after `step` steps, 0 for a new run.
  /// Throws: SystemError.
  TensorboardFile(const std::string& folder, std::int64_t step);

  /// Appends one record. Throws: SystemError.
  void write(const Report& report);

 private:
  File file_;
};

}  // namespace smoe
