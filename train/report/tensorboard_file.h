// TensorBoard event files.
//
// A file is a sequence of records (TFRecord): length u64, masked CRC-32C of the length, data,
// masked CRC-32C of the data, all little-endian. The data is an Event message in protobuf's wire
// format:
//   Event   { double wall_time = 1; int64 step = 2; string file_version = 3; Summary summary = 5;
//             SessionLog session_log = 7 { enum status = 1; } }
// Source: tensorflow/core/lib/io/record_writer.h, tensorboard/compat/proto/event.proto.
//
// A process that resumes a run creates a new file, whose name sorts after the earlier ones. Its
// second event is START at the next step: TensorBoard then discards the events of earlier files at
// that step and later, so that no step is shown twice.
#pragma once
#include <cstdint>
#include <string>
#include <string_view>

#include "core/system/file.h"
#include "train/config/config.h"
#include "train/report/tensorboard_summary.h"

namespace smoe {

/// `data` framed as a record.
std::string tensorboard_record(std::string_view data);
/// An Event with a Summary.
std::string tensorboard_event(double wall_time, std::int64_t step,
                              const TensorboardSummary& summary);

/// One event file of a run.
class TensorboardFile {
 public:
  /// Creates a file in `folder` for a process that resumes after `step` steps, 0 for a new run. It
  /// begins with `config` as text and as hyper-parameters. Throws: SystemError.
  TensorboardFile(const std::string& folder, std::int64_t step, const Config& config);

  /// Appends one record. Expert loads, the largest part, are written at most 200 times per run.
  /// Throws: SystemError.
  void write(const Report& report);

 private:
  bool is_load_due(const Report& report);

  File file_;
  std::int64_t loads_written_ = -1;  // the last one, as a share of the run in 1/200
};

}  // namespace smoe
