#include "train/report/tensorboard_file.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <bit>
#include <charconv>
#include <chrono>

#include "core/system/folder.h"
#include "train/report/crc32c.h"

namespace smoe {
namespace {

constexpr std::string_view kPrefix = "events.out.tfevents.";

double seconds_since_1970() {
  const auto now = std::chrono::system_clock::now().time_since_epoch();
  return std::chrono::duration<double>(now).count();
}

// ---- protobuf's wire format --------------------------------------------------------------------

enum class Wire : std::uint8_t { varint = 0, fixed64 = 1, bytes = 2, fixed32 = 5 };

template <class T>
void put_fixed(std::string& out, T bits) {
  for (unsigned i = 0; i < sizeof bits; ++i) out += static_cast<char>(bits >> 8 * i & 0xFF);
}

void put_varint(std::string& out, std::uint64_t value) {
  for (; value >= 0x80; value >>= 7) out += static_cast<char>(value | 0x80);
  out += static_cast<char>(value);
}

void put_key(std::string& out, unsigned field, Wire wire) {
  put_varint(out, field << 3 | static_cast<unsigned>(wire));
}

void put_integer(std::string& out, unsigned field, std::int64_t value) {
  put_key(out, field, Wire::varint);
  put_varint(out, static_cast<std::uint64_t>(value));
}

void put_bytes(std::string& out, unsigned field, std::string_view bytes) {
  put_key(out, field, Wire::bytes);
  put_varint(out, bytes.size());
  out += bytes;
}

// ---- TensorBoard's messages --------------------------------------------------------------------

std::string event_at(double wall_time, std::int64_t step) {
  std::string event;
  put_key(event, 1, Wire::fixed64);
  put_fixed(event, std::bit_cast<std::uint64_t>(wall_time));
  put_integer(event, 2, step);
  return event;
}

std::string version_event(double wall_time) {
  std::string event = event_at(wall_time, 0);
  put_bytes(event, 3, "brain.Event:2");
  return event;
}

std::string start_event(double wall_time, std::int64_t step) {
  std::string session;
  put_integer(session, 1, 1);  // START
  std::string event = event_at(wall_time, step);
  put_bytes(event, 7, session);
  return event;
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

void add_layers(Scalars& scalars, const std::vector<LayerReport>& layers) {
  for (std::size_t l = 0; l < layers.size(); ++l) {
    const LayerReport& layer = layers[l];
    const std::string name = fmt::format("layer_{:02}", l);
    scalars.emplace_back("imbalance/" + name, layer.load.imbalance);
    scalars.emplace_back("entropy/" + name, layer.load.entropy);
    scalars.emplace_back("dead_experts/" + name, static_cast<double>(layer.load.dead));
    scalars.emplace_back("balance_loss/" + name, layer.balance_loss);
    scalars.emplace_back("z_loss/" + name, layer.z_loss);
  }
}

Scalars scalars_in(const StartReport&) {
  return {};
}

Scalars scalars_in(const ChangeReport&) {
  return {};
}

Scalars scalars_in(const StepReport& report) {
  Scalars scalars = {{"train/loss", report.loss},
                     {"train/lr", report.lr},
                     {"train/grad_norm", report.grad_norm},
                     {"train/tokens_per_s", report.tokens_per_s},
                     {"train/mfu", report.mfu},
                     {"train/balance_loss", report.balance_loss},
                     {"train/z_loss", report.z_loss},
                     {"train/imbalance", report.imbalance},
                     {"train/dead_experts", static_cast<double>(report.dead_experts)}};
  for (int c = 0; c < kNumCategories; ++c)
    scalars.emplace_back(fmt::format("memory_bytes/{}", name_of(static_cast<Category>(c))),
                         static_cast<double>(report.memory_bytes[c]));
  add_layers(scalars, report.layers);
  return scalars;
}

Scalars scalars_in(const ValidationReport& report) {
  Scalars scalars = {{"validation/loss", report.loss},
                     {"validation/bits_per_byte", report.bits_per_byte}};
  for (const SourceReport& source : report.sources) {
    scalars.emplace_back("validation/loss/" + source.name, source.loss);
    scalars.emplace_back("validation/bits_per_byte/" + source.name, source.bits_per_byte);
  }
  return scalars;
}

}  // namespace

Scalars scalars_of(const Report& report) {
  return std::visit([](const auto& r) { return scalars_in(r); }, report);
}

std::string tensorboard_record(std::string_view data) {
  std::string record;
  put_fixed(record, static_cast<std::uint64_t>(data.size()));
  put_fixed(record, masked_crc(record));
  record += data;
  put_fixed(record, masked_crc(data));
  return record;
}

std::string tensorboard_event(double wall_time, std::int64_t step, const Scalars& scalars) {
  std::string summary;
  for (const auto& [tag, scalar] : scalars) {
    std::string value;
    put_bytes(value, 1, tag);
    put_key(value, 2, Wire::fixed32);
    put_fixed(value, std::bit_cast<std::uint32_t>(static_cast<float>(scalar)));
    put_bytes(summary, 1, value);
  }
  std::string event = event_at(wall_time, step);
  put_bytes(event, 5, summary);
  return event;
}

TensorboardFile::TensorboardFile(const std::string& folder, std::int64_t step)
    : file_(File::open_append(next_path(folder))) {
  const double now = seconds_since_1970();
  file_.append(tensorboard_record(version_event(now)) +
               tensorboard_record(start_event(now, step == 0 ? 0 : step + 1)));
}

void TensorboardFile::write(const Report& report) {
  const Scalars scalars = scalars_of(report);
  if (scalars.empty()) return;
  file_.append(
      tensorboard_record(tensorboard_event(seconds_since_1970(), step_of(report), scalars)));
}

}  // namespace smoe
