// Speed of this device and of the disk.
#include "train/doctor/speed_checks.h"

#include <fmt/format.h>

#include <algorithm>
#include <string>

#include "core/base/clock.h"
#include "core/device.h"
#include "core/memory.h"
#include "core/system/file.h"
#include "core/system/folder.h"
#include "core/system/format.h"
#include "train/profile/power.h"
#include "train/profile/roofline.h"
#include "train/profile/timing.h"
#include "train/report/peak_flops.h"

namespace smoe {
namespace {

constexpr std::int64_t kDiskBytes = std::int64_t{64} << 20;
constexpr double kSlowWrite = 100e6;  // bytes per second: a checkpoint of 1.5 B parameters in 3 min
constexpr double kSlowSyncMs = 100;

Finding gemm_finding(const Roofline& roofline, DType dtype) {
  const double peak = peak_flops(current_stream().device(), dtype);
  Finding finding{
      .subject = "GEMM speed",
      .result = fmt::format("{}/s ({})", short_flops(roofline.flops_per_s), roofline.gemm)};
  if (peak == 0) return finding;
  const double share = roofline.flops_per_s / peak;
  finding.result += fmt::format(", {:.0f} % of the peak", 100 * share);
  constexpr double kSlowShare = 0.5;
  if (share < kSlowShare) {
    finding.health = Health::yellow;
    finding.advice =
        "slower than such a GPU should be: see its power limit, clocks and other users "
        "(nvidia-smi)";
  }
  return finding;
}

Finding power_finding(const PowerReport& power) {
  if (!power.unavailable.empty())
    return {Health::yellow, "power", power.unavailable, "power and clocks are not measured"};
  Finding finding{.subject = "power",
                  .result = fmt::format("{:.0f} W of {:.0f} W, {:.0f} MHz of {:.0f} MHz, {:.0f} °C",
                                        power.max_watts, power.limit_watts, power.mean_mhz,
                                        power.max_mhz, power.celsius)};
  // At the power limit a GPU is where large GEMMs should bring it.
  if (power.slowed_by.find("hardware") != std::string::npos ||
      power.slowed_by.find("temperature") != std::string::npos ||
      power.slowed_by.find("brake") != std::string::npos) {
    finding.health = Health::yellow;
    finding.advice = "slowed down by " + power.slowed_by + ": check cooling and power supply";
  }
  return finding;
}

// Removes a file at the end, whatever happens.
struct FileRemover {
  std::string path;
  ~FileRemover() {
    try {
      remove_file(path);
    } catch (const std::exception&) {  // its folder is gone
    }
  }
};

}  // namespace

Findings check_speed() {
  const bool is_gpu = current_stream().device().type == DeviceType::cuda;
  const DType dtype = is_gpu ? DType::bf16 : DType::f32;
  PowerMeter meter(current_stream().device());
  const Roofline roofline = measure_roofline(dtype);
  const PowerReport power = meter.stop();
  release_cached_memory();
  Findings findings{gemm_finding(roofline, dtype),
                    {.subject = "copy speed",
                     .result = fmt::format("{:.1f} GB/s read and written ({})",
                                           roofline.bytes_per_s / 1e9, roofline.copy)}};
  if (is_gpu) findings.push_back(power_finding(power));
  return findings;
}

Findings check_disk(const std::string& folder) {
  const std::string path = folder + "/.smoe-doctor";
  try {
    const FileRemover remover{path};
    const std::string block(kDiskBytes, 'x');
    std::vector<double> syncs;
    File file = File::create(path);
    const double write_s = seconds_of([&] {
      file.write_at(0, block.data(), kDiskBytes);
      file.sync();
    });
    for (int i = 0; i < 5; ++i)
      syncs.push_back(1e3 * seconds_of([&] {
                        file.write_at(i, "y", 1);
                        file.sync();
                      }));
    const bool is_from_disk = file.drop_cached();
    std::string read(kDiskBytes, '\0');
    const double read_s = seconds_of([&] { file.read_at(0, read.data(), kDiskBytes); });
    const double write_speed = static_cast<double>(kDiskBytes) / write_s;
    Finding disk{.subject = "disk of " + folder,
                 .result = fmt::format(
                     "writes {:.0f} MB/s with fsync, reads {:.0f} MB/s{}, fsync {:.1f} ms",
                     write_speed / 1e6, static_cast<double>(kDiskBytes) / read_s / 1e6,
                     is_from_disk ? "" : " (from memory, which the system keeps)", median(syncs))};
    if (read.compare(5, std::string::npos, block, 5, std::string::npos) != 0)
      disk = {Health::red, disk.subject, "reads other bytes than were written",
              "do not keep checkpoints here"};
    else if (write_speed < kSlowWrite || median(syncs) > kSlowSyncMs)
      disk = {Health::yellow, disk.subject, disk.result,
              "checkpoints will be slow here: use a local disk for run.dir, or save less often"};
    return {disk};
  } catch (const SystemError& error) {
    return {{Health::red, "disk of " + folder, error.what(), "runs cannot be written here"}};
  }
}

}  // namespace smoe
