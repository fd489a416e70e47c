#include "train/report/tensorboard_file.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <bit>
#include <charconv>
#include <chrono>
#include <utility>

#include "core/system/folder.h"
#include "train/config/settings.h"
#include "train/report/crc32c.h"

namespace smoe {
namespace {

constexpr std::string_view kPrefix = "events.out.tfevents.";

double seconds_since_1970() {
  const auto now = std::chrono::system_clock::now().time_since_epoch();
  return std::chrono::duration<double>(now).count();
}

ProtobufMessage event_at(double wall_time, std::int64_t step) {
  ProtobufMessage event;
  event.real(1, wall_time);
  event.integer(2, step);
  return event;
}

std::string version_event(double wall_time) {
  ProtobufMessage event = event_at(wall_time, 0);
  event.bytes(3, "brain.Event:2");
  return event.text();
}

std::string start_event(double wall_time, std::int64_t step) {
  ProtobufMessage session, event = event_at(wall_time, step);
  session.integer(1, 1);  // START
  event.message(7, session);
  return event.text();
}

// TFRecord masks its CRCs, since the CRC of data that contains CRCs is weak.
std::uint32_t masked_crc(std::string_view bytes) {
  return std::rotr(crc32c(bytes), 15) + 0xA282EAD8u;
}

// TensorBoard reads files in the order of their names, which begin with a time in ten digits: the
// new name must sort after all existing ones, whatever the clock says.
std::string next_path(const std::string& folder) {
  auto time = static_cast<std::int64_t>(seconds_since_1970());
  for (const FolderEntry& entry : list_folder(folder)) {
    if (!entry.name.starts_with(kPrefix)) continue;
    std::int64_t earlier = 0;
    std::from_chars(entry.name.data() + kPrefix.size(), entry.name.data() + entry.name.size(),
                    earlier);
    time = std::max(time, earlier + 1);
  }
  char host[256] = "";
  ::gethostname(host, sizeof host - 1);
  return fmt::format("{}/{}{:010}.{}", folder, kPrefix, time, host);
}

TensorboardSummary description_of(const Config& config, double start_time) {
  const std::string yaml = to_yaml(config);
  HyperParameters parameters;
  for (const Setting& setting : read_settings(yaml, "config")) {
    if (setting.kind != Setting::Kind::scalar) continue;
    const std::string& text = setting.value.text;
    double number = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
    const bool is_number = error == std::errc() && end == text.data() + text.size();
    if (is_number)
      parameters.emplace_back(setting.key, number);
    else
      parameters.emplace_back(setting.key, text);
  }
  TensorboardSummary summary;
  summary.text("configuration", "```yaml\n" + yaml + "```\n");
  summary.hyper_parameters(parameters, start_time);
  return summary;
}

}  // namespace

std::string tensorboard_record(std::string_view data) {
  std::string record;
  ProtobufMessage::put_fixed(record, static_cast<std::uint64_t>(data.size()));
  ProtobufMessage::put_fixed(record, masked_crc(record));
  record += data;
  ProtobufMessage::put_fixed(record, masked_crc(data));
  return record;
}

std::string tensorboard_event(double wall_time, std::int64_t step,
                              const TensorboardSummary& summary) {
  ProtobufMessage event = event_at(wall_time, step);
  event.message(5, summary.message());
  return event.text();
}

TensorboardFile::TensorboardFile(const std::string& folder, std::int64_t step, const Config& config)
    : file_(File::open_append(next_path(folder))) {
  const double now = seconds_since_1970();
  file_.append(tensorboard_record(version_event(now)) +
               tensorboard_record(start_event(now, step == 0 ? 0 : step + 1)) +
               tensorboard_record(tensorboard_event(now, step, description_of(config, now))));
}

void TensorboardFile::write(const Report& report) {
  const TensorboardSummary summary = summary_of(report, is_load_due(report));
  if (summary.empty()) return;
  file_.append(
      tensorboard_record(tensorboard_event(seconds_since_1970(), step_of(report), summary)));
}

bool TensorboardFile::is_load_due(const Report& report) {
  const auto* const step = std::get_if<StepReport>(&report);
  if (!step) return false;
  const std::int64_t share = step->step * 200 / std::max<std::int64_t>(step->steps, 1);
  return std::exchange(loads_written_, share) != share;
}

}  // namespace smoe
