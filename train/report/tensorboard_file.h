// TensorBoard event files, in the subset of the format that scalars need.
//
// A file is a sequence of records (TFRecord): length u64, masked CRC-32C of the length, data,
// masked CRC-32C of the data, all little-endian. The data is an Event message in protobuf's wire
// format:
//   Event   { double wall_time = 1; int64 step = 2; string file_version = 3;
//             Summary summary = 5 { repeated Value value = 1 { string tag = 1;
//                                                              float simple_value = 2; } };
//             SessionLog session_log = 7 { enum status = 1; } }
// Source: tensorflow/core/lib/io/record_writer.h, tensorboard/compat/proto/{event,summary}.proto.
//
// A process that resumes a run creates a new file, whose name sorts after the earlier ones. Its
// second event is START at the next step: TensorBoard then discards the events of earlier files at
// that step and later, so that no step is shown twice.
#pragma once
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "core/system/file.h"
#include "train/report/report.h"

namespace smoe {

/// Names and values of one step.
using Scalars = std::vector<std::pair<std::string, double>>;

/// The scalars of a report by tag: "train/loss", "validation/bits_per_byte", "z_loss/layer_03", ...
/// Empty for a start and a change.
Scalars scalars_of(const Report& report);

/// `data` framed as a record.
std::string tensorboard_record(std::string_view data);
/// An Event with one Value per scalar, as float.
std::string tensorboard_event(double wall_time, std::int64_t step, const Scalars& scalars);

/// One event file of a run.
class TensorboardFile {
 public:
  /// Creates a file in `folder` for a process that resumes after `step` steps, 0 for a new run.
  /// Throws: SystemError.
  TensorboardFile(const std::string& folder, std::int64_t step);

  /// Appends one record. Throws: SystemError.
  void write(const Report& report);

 private:
  File file_;
};

}  // namespace smoe
