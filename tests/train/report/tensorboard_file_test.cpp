#include "train/report/tensorboard_file.h"

#include <doctest/doctest.h>

#include <cmath>
#include <cstring>
#include <map>
#include <vector>

#include "core/system/folder.h"
#include "tests/support/temporary_folder.h"
#include "tests/support/text.h"
#include "tests/train/config/valid_config.h"
#include "train/report/crc32c.h"

using namespace smoe;
using test::contains;

namespace {

Config run_config() {
  return parse_config(kValid, "a.yaml");
}

// ---- a decoder independent of the writer -------------------------------------------------------

// CRC-32C bit by bit, on reflected bits.
std::uint32_t slow_crc32c(std::string_view bytes) {
  std::uint32_t rest = 0xFFFFFFFFu;
  for (const char c : bytes) {
    for (int bit = 0; bit < 8; ++bit) {
      const bool is_odd = ((rest ^ (static_cast<unsigned char>(c) >> bit)) & 1) != 0;
      rest >>= 1;
      if (is_odd) rest ^= 0x82F63B78u;
    }
  }
  return rest ^ 0xFFFFFFFFu;
}

std::uint32_t unmasked(std::uint32_t masked) {
  const std::uint32_t rotated = masked - 0xA282EAD8u;
  return rotated >> 17 | rotated << 15;
}

template <class T>
T take(std::string_view& bytes) {
  T value;
  REQUIRE(bytes.size() >= sizeof value);
  std::memcpy(&value, bytes.data(), sizeof value);
  bytes.remove_prefix(sizeof value);
  return value;
}

std::string_view take(std::string_view& bytes, std::size_t size) {
  REQUIRE(bytes.size() >= size);
  const std::string_view part = bytes.substr(0, size);
  bytes.remove_prefix(size);
  return part;
}

std::vector<std::string_view> records_of(std::string_view file) {
  std::vector<std::string_view> records;
  while (!file.empty()) {
    const std::string_view length_bytes = file.substr(0, 8);
    const auto length = take<std::uint64_t>(file);
    REQUIRE(unmasked(take<std::uint32_t>(file)) == slow_crc32c(length_bytes));
    records.push_back(take(file, length));
    REQUIRE(unmasked(take<std::uint32_t>(file)) == slow_crc32c(records.back()));
  }
  return records;
}

std::uint64_t take_varint(std::string_view& bytes) {
  std::uint64_t value = 0;
  for (int shift = 0;; shift += 7) {
    REQUIRE(shift < 64);
    const auto byte = static_cast<unsigned char>(take(bytes, 1)[0]);
    value |= static_cast<std::uint64_t>(byte & 0x7F) << shift;
    if (byte < 0x80) return value;
  }
}

struct DecodedEvent {
  double wall_time = 0;
  std::int64_t step = 0;
  std::string version;
  int session_status = 0;
  std::map<std::string, float> scalars;
  std::map<std::string, std::string> histograms, tensors, metadata;  // by tag, not decoded
};

void decode_value(std::string_view bytes, DecodedEvent& event) {
  std::string tag;
  bool has_value = false;
  while (!bytes.empty()) {
    const std::uint64_t key = take_varint(bytes);
    if (key == (2 << 3 | 5)) {
      has_value = event.scalars.emplace(tag, take<float>(bytes)).second;
      continue;
    }
    const std::string part(take(bytes, take_varint(bytes)));
    if (key == (1 << 3 | 2)) {
      tag = part;
    } else if (key == (5 << 3 | 2)) {
      has_value = event.histograms.emplace(tag, part).second;
    } else if (key == (8 << 3 | 2)) {
      has_value = event.tensors.emplace(tag, part).second;
    } else {
      REQUIRE(key == (9 << 3 | 2));
      event.metadata.emplace(tag, part);
    }
  }
  CHECK(has_value);
}

// The numbers of a message whose fields are 64-bit, packed ones as several.
std::map<int, std::vector<double>> reals_of(std::string_view bytes) {
  std::map<int, std::vector<double>> fields;
  while (!bytes.empty()) {
    const std::uint64_t key = take_varint(bytes);
    std::string_view part = take(bytes, key % 8 == 2 ? take_varint(bytes) : 8);
    while (!part.empty()) fields[static_cast<int>(key / 8)].push_back(take<double>(part));
  }
  return fields;
}

DecodedEvent decode(std::string_view bytes) {
  DecodedEvent event;
  while (!bytes.empty()) {
    const std::uint64_t key = take_varint(bytes);
    if (key == (1 << 3 | 1)) {
      event.wall_time = take<double>(bytes);
    } else if (key == (2 << 3 | 0)) {
      event.step = static_cast<std::int64_t>(take_varint(bytes));
    } else {
      std::string_view part = take(bytes, take_varint(bytes));
      if (key == (3 << 3 | 2)) {
        event.version = part;
      } else if (key == (7 << 3 | 2)) {
        REQUIRE(take_varint(part) == (1 << 3 | 0));
        event.session_status = static_cast<int>(take_varint(part));
      } else {
        REQUIRE(key == (5 << 3 | 2));
        while (!part.empty()) {
          REQUIRE(take_varint(part) == (1 << 3 | 2));
          decode_value(take(part, take_varint(part)), event);
        }
      }
    }
  }
  return event;
}

std::vector<DecodedEvent> events_in(const std::string& path) {
  const std::string file = read_file(path, 1 << 20);
  std::vector<DecodedEvent> events;
  for (const std::string_view record : records_of(file)) events.push_back(decode(record));
  return events;
}

StepReport logged_step(std::int64_t step) {
  StepReport report;
  report.step = step;
  report.loss = 2.5;
  report.lr = 1e-3;
  report.grad_norm = std::nan("");
  report.memory_bytes = {1, 2, 3, 4, std::int64_t{1} << 40};
  report.layers.resize(11);
  report.layers[10].z_loss = 7;
  report.layers[10].expert_rows = {4, 0, 5};
  report.steps = 1000;
  report.is_skipped = true;
  report.peak_bytes = std::int64_t{1} << 40;
  return report;
}

}  // namespace

TEST_CASE("CRC-32C of the test vectors in RFC 3720") {
  std::string ascending, descending;
  for (int i = 0; i < 32; ++i) {
    ascending += static_cast<char>(i);
    descending += static_cast<char>(31 - i);
  }
  CHECK(crc32c("") == 0);
  CHECK(crc32c("123456789") == 0xE3069283u);
  CHECK(crc32c(std::string(32, '\0')) == 0x8A9136AAu);
  CHECK(crc32c(std::string(32, '\xFF')) == 0x62A8AB43u);
  CHECK(crc32c(ascending) == 0x46DD794Eu);
  CHECK(crc32c(descending) == 0x113FDB5Cu);
}

TEST_CASE("a record is framed as by TensorFlow") {
  CHECK(tensorboard_record("") ==
        std::string("\0\0\0\0\0\0\0\0\x29\x03\x98\x07\xd8\xea\x82\xa2", 16));
  for (const std::size_t size : {1, 127, 128, 300, 70'000}) {
    const std::string data(size, 'x');
    const std::string record = tensorboard_record(data);
    CHECK(record.size() == size + 16);
    CHECK(records_of(record) == std::vector<std::string_view>{data});
  }
}

TEST_CASE("an event contains time, step and scalars") {
  for (const std::int64_t step : {0, 1, 127, 128, 1'000'000'000}) {
    TensorboardSummary summary;
    summary.scalar("a", 1.5);
    summary.scalar(std::string(200, 'b'), -2);
    const DecodedEvent event = decode(tensorboard_event(1.7e9 + 0.25, step, summary));
    CHECK(event.wall_time == 1.7e9 + 0.25);
    CHECK(event.step == step);
    CHECK(event.scalars ==
          std::map<std::string, float>{{"a", 1.5F}, {std::string(200, 'b'), -2.F}});
  }
}

TEST_CASE("the event file of a run contains its reports") {
  const TemporaryFolder folder;
  {
    TensorboardFile file(folder.path(), 0, run_config());
    file.write(StartReport{});
    file.write(ValidationReport{.loss = 5,
                                .bits_per_byte = 8,
                                .sources = {{.name = "web", .loss = 4, .bits_per_byte = 7}}});
    file.write(logged_step(1));
    file.write(logged_step(300));
  }
  const auto files = list_folder(folder.path());
  REQUIRE(files.size() == 1);
  CHECK(files[0].name.starts_with("events.out.tfevents.1"));
  const auto events = events_in(folder / files[0].name);
  REQUIRE(events.size() == 6);
  CHECK(events[0].version == "brain.Event:2");
  CHECK(events[1].session_status == 1);
  CHECK(events[1].step == 0);
  CHECK(contains(events[2].tensors.at("configuration"), "num_experts: 4"));
  CHECK(contains(events[2].metadata.at("configuration"), "text"));
  const std::string session = events[2].metadata.at("_hparams_/session_start_info");
  CHECK(contains(session, "hparams"));
  CHECK(contains(session, "model.num_experts"));
  CHECK(events[3].scalars == std::map<std::string, float>{{"validation/loss", 5.F},
                                                          {"validation/bits_per_byte", 8.F},
                                                          {"validation/loss/web", 4.F},
                                                          {"validation/bits_per_byte/web", 7.F}});
  CHECK(events[5].step == 300);
  CHECK(events[5].wall_time >= events[4].wall_time);
  CHECK(events[5].scalars.at("train/loss") == 2.5F);
  CHECK(events[5].scalars.at("train/lr") == 1e-3F);
  CHECK(std::isnan(events[5].scalars.at("train/grad_norm")));
  CHECK(events[5].scalars.at("memory_bytes/workspace") == 0x1p40F);
  CHECK(events[5].scalars.at("memory_bytes/peak") == 0x1p40F);
  CHECK(events[5].scalars.at("train/skipped") == 1.F);
  CHECK(events[5].scalars.at("z_loss/layer_10") == 7.F);
  auto load = reals_of(events[5].histograms.at("expert_load/layer_10"));
  CHECK(load[1] == std::vector<double>{0});
  CHECK(load[2] == std::vector<double>{3});
  CHECK(load[3] == std::vector<double>{9});
  CHECK(load[4] == std::vector<double>{4 * 0.5 + 5 * 2.5});
  CHECK(load[6] == std::vector<double>{1, 2, 3});
  CHECK(load[7] == std::vector<double>{4, 0, 5});
}

TEST_CASE("a resumed run writes a file that is read later and replaces later steps") {
  const TemporaryFolder folder;
  overwrite(folder / "events.out.tfevents.3000000000.other-host", "");
  for (const std::int64_t step : {300, 200})
    TensorboardFile(folder.path(), step, run_config()).write(logged_step(step));
  const auto files = list_folder(folder.path());
  REQUIRE(files.size() == 3);
  const std::int64_t steps[] = {300, 200};
  for (int i = 0; i < 2; ++i) {
    const std::string& name = files[i + 1].name;
    CHECK(name.starts_with("events.out.tfevents.300000000" + std::to_string(i + 1) + "."));
    const auto events = events_in(folder / name);
    CHECK(events.at(1).session_status == 1);
    CHECK(events.at(1).step == steps[i] + 1);
  }
}

TEST_CASE("a long run writes expert loads at most 200 times") {
  const TemporaryFolder folder;
  {
    TensorboardFile file(folder.path(), 0, run_config());
    StepReport report = logged_step(1);
    for (report.steps = 5000; report.step <= 2500; ++report.step) file.write(report);
  }
  int count = 0;
  const std::string path = folder / list_folder(folder.path()).at(0).name;
  const std::string file = read_file(path, std::int64_t{1} << 30);
  for (const std::string_view record : records_of(file))
    count += !decode(record).histograms.empty();
  CHECK(count >= 100);
  CHECK(count <= 102);
}
