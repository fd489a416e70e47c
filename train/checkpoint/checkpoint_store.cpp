#include "train/checkpoint/checkpoint_store.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <chrono>

#include "core/base/check.h"
#include "core/system/folder.h"
#include "core/system/text.h"
#include "train/checkpoint/parse_manifest.h"

namespace smoe {
namespace {

constexpr std::string_view kPrefix = "step-";
// A checkpoint that save replaces keeps this suffix until the new one is durable.
constexpr std::string_view kReplaced = ".replaced";
constexpr std::string_view kTemporary = ".tmp-";
// A checkpoint that is in the way but not known to be intact is kept under this suffix.
constexpr std::string_view kAside = ".set-aside";
constexpr std::chrono::seconds kSlowRename{1};

bool starts_with(std::string_view text, std::string_view prefix) {
  return text.substr(0, prefix.size()) == prefix;
}

/// The step in "00000120"; no value for anything that checkpoint_name does not produce.
std::optional<std::int64_t> step_of(std::string_view digits) {
  std::int64_t step = 0;
  const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), step);
  const bool is_number = error == std::errc() && end == digits.data() + digits.size() && step >= 0;
  if (!is_number || checkpoint_name(step).substr(kPrefix.size()) != digits) return std::nullopt;
  return step;
}

/// Reads back what was written. A difference is a fault of the system, after which a restart helps.
void verify_written(const std::string& path) {
  try {
    Checkpoint(path).verify();
  } catch (const UsageError& error) {
    throw SystemError(error.what());
  }
}

void check_same_run(const Checkpoint& checkpoint, const CheckpointHeader& expected) {
  const Manifest& manifest = checkpoint.manifest();
  SMOE_CHECK(manifest.config_digest == expected.config, checkpoint.path(),
             ": config digest must be ", expected.config.hex(), ", that of this run; got ",
             manifest.config_digest.hex(),
             "; restore the settings that it was trained with, or start a run with another name");
  SMOE_CHECK(manifest.data_digest == expected.data, checkpoint.path(), ": data digest must be ",
             expected.data.hex(), ", that of this run's token set; got ",
             manifest.data_digest.hex(),
             "; restore the token set that it was trained on, or start a run with another name");
}

}  // namespace

/// A folder with the name of a checkpoint.
struct CheckpointStore::Entry {
  std::string name;
  std::int64_t step;
  bool is_replaced;
};

std::string checkpoint_name(std::int64_t step) {
  return fmt::format("{}{:08}", kPrefix, step);
}

CheckpointStore::CheckpointStore(Options options, Log log)
    : options_(std::move(options)), log_(std::move(log)) {
  SMOE_CHECK(options_.keep >= 1, "checkpoint store: keep must be at least 1; got ", options_.keep);
  SMOE_CHECK(options_.keep_every >= 0, "checkpoint store: keep_every must not be negative; got ",
             options_.keep_every);
  SMOE_CHECK(options_.keep_newest_of_every >= 0,
             "checkpoint store: keep_newest_of_every must not be negative; got ",
             options_.keep_newest_of_every);
}

/// Newest first; at equal steps, the replaced one last.
std::vector<CheckpointStore::Entry> CheckpointStore::entries() const {
  std::vector<Entry> found;
  if (kind_of(options_.folder) == PathKind::none) return found;
  for (const FolderEntry& entry : list_folder(options_.folder)) {
    std::string_view digits = entry.name;
    if (!starts_with(digits, kPrefix)) continue;
    digits.remove_prefix(kPrefix.size());
    const bool is_replaced = digits.size() > kReplaced.size() &&
                             digits.substr(digits.size() - kReplaced.size()) == kReplaced;
    if (is_replaced) digits.remove_suffix(kReplaced.size());
    if (const auto step = step_of(digits)) found.push_back({entry.name, *step, is_replaced});
  }
  std::sort(found.begin(), found.end(), [](const Entry& a, const Entry& b) {
    return a.step != b.step ? a.step > b.step : a.is_replaced < b.is_replaced;
  });
  return found;
}

std::string CheckpointStore::newest_path() const {
  const std::vector<Entry> all = entries();
  return all.empty() ? "" : options_.folder + "/" + all.front().name;
}

std::int64_t CheckpointStore::newest_step() const {
  const std::vector<Entry> found = entries();
  return found.empty() ? -1 : found[0].step;
}

std::string CheckpointStore::temporary_path(std::int64_t step) const {
  return concat(options_.folder, "/", kTemporary, checkpoint_name(step));
}

/// Makes the store's folder, and room for a new one in it.
void CheckpointStore::prepare(const std::string& temporary) const {
  if (kind_of(options_.folder) == PathKind::none) {
    make_folders(options_.folder);
    sync_folder(parent_of(options_.folder));
  }
  remove_unfinished();
  vacate(temporary);
}

void CheckpointStore::begin(std::int64_t step) const {
  const std::string temporary = temporary_path(step);
  prepare(temporary);
  make_new_folder(temporary);
}

std::string CheckpointStore::save(const CheckpointHeader& header, const VisitState& visit,
                                  const ShardWriters& writers) {
  SMOE_CHECK(header.step >= 0, "checkpoint: step must not be negative; got ", header.step);
  const std::string name = checkpoint_name(header.step);
  const std::string path = options_.folder + "/" + name;
  const std::string temporary = temporary_path(header.step);
  if (writers.index > 0) {
    write_checkpoint(temporary, header, visit, writers);
    return path;
  }
  if (writers.count == 1) prepare(temporary);
  try {
    write_checkpoint(temporary, header, visit, writers);
    verify_written(temporary);
    remove_after(header.step);
    publish(temporary, name);
  } catch (...) {
    // Other writers may still write to the folder, and must see the cause, not its removal.
    if (writers.count == 1) remove_unfinished();
    throw;
  }
  log_(concat("saved ", path));
  prune();
  return path;
}

/// Renames a complete checkpoint. An existing one of the same step, from before the run went back,
/// stays valid under another name until the new one is durable.
void CheckpointStore::publish(const std::string& temporary, const std::string& name) const {
  const std::string path = options_.folder + "/" + name;
  const std::string aside = concat(path, kReplaced);
  if (kind_of(path) != PathKind::none && !set_aside_unless_intact(name)) {
    remove_folder(aside);
    rename_path(path, aside);
  }
  using Clock = std::chrono::steady_clock;
  const Clock::time_point begin = Clock::now();
  rename_path(temporary, path);
  const std::chrono::duration<double> taken = Clock::now() - begin;
  if (taken >= kSlowRename)
    log_(
        fmt::format("warning: {}: the file system took {:.1f} s to rename a folder; saves are slow "
                    "there",
                    options_.folder, taken.count()));
  sync_folder(options_.folder);
}

/// Renames a checkpoint that cannot be verified, for its owner to examine or remove. Returns false
/// if it is intact.
bool CheckpointStore::set_aside_unless_intact(const std::string& name) const {
  const std::string path = options_.folder + "/" + name;
  std::string reason;
  try {
    Checkpoint(path).verify();
    return false;
  } catch (const Error& error) {
    reason = error.what();
  }
  const std::string aside = concat(path, kAside);
  remove_folder(aside);
  rename_path(path, aside);
  log_(concat("renamed to ", name_of_path(aside), ", never to be read or removed: ", reason));
  return true;
}

/// A folder that is no longer a checkpoint only occupies disk space, so a failure to remove it does
/// not end the run.
template <class Remove>
void CheckpointStore::remove_or_log(Remove&& remove) const {
  try {
    remove();
  } catch (const SystemError& error) {
    log_(concat(error.what(), "; the next save retries"));
  }
}

void CheckpointStore::remove_unfinished() const {
  remove_or_log([&] {
    for (const FolderEntry& entry : list_folder(options_.folder))
      if (starts_with(entry.name, kTemporary))
        remove_or_log([&] { remove_folder(options_.folder + "/" + entry.name); });
  });
}

/// A temporary path to remove `name` under. It differs from those that an earlier removal could not
/// remove.
std::string CheckpointStore::removal_path(const std::string& name) const {
  const std::string path = concat(options_.folder, "/", kTemporary, "removed-", name);
  std::string unused = path;
  for (int i = 2; kind_of(unused) != PathKind::none; ++i) unused = concat(path, "-", i);
  return unused;
}

/// Makes the path of an unfinished checkpoint free where remove_unfinished could not.
void CheckpointStore::vacate(const std::string& temporary) const {
  if (kind_of(temporary) != PathKind::none)
    rename_path(temporary, removal_path(name_of_path(temporary)));
}

/// Renames a checkpoint before its removal, so that a partial removal never looks like a damaged
/// checkpoint. Returns the folder to remove.
std::string CheckpointStore::retire(const std::string& name) const {
  const std::string retired = removal_path(name);
  rename_path(options_.folder + "/" + name, retired);
  return retired;
}

/// Must be durable before the new checkpoint is published: a resume would choose the higher step.
void CheckpointStore::remove_after(std::int64_t step) const {
  std::vector<std::string> retired;
  for (const Entry& entry : entries()) {
    if (entry.step <= step || set_aside_unless_intact(entry.name)) continue;
    log_(concat("removing ", options_.folder, "/", entry.name,
                ": the run resumed from an earlier step"));
    retired.push_back(retire(entry.name));
  }
  sync_folder(options_.folder);
  for (const std::string& path : retired) remove_or_log([&] { remove_folder(path); });
}

void CheckpointStore::prune() const {
  remove_or_log([&] {
    std::int64_t num_recent = 0;
    bool has_newest_of_every = options_.keep_newest_of_every == 0;
    for (const Entry& entry : entries()) {
      const auto is_multiple_of = [&](std::int64_t every) {
        return every > 0 && entry.step % every == 0;
      };
      bool stays = false;
      if (!entry.is_replaced) {
        stays = num_recent++ < options_.keep || is_multiple_of(options_.keep_every) ||
                entry.step == kept_step_;
        if (!has_newest_of_every && is_multiple_of(options_.keep_newest_of_every))
          stays = has_newest_of_every = true;
      }
      if (!stays) remove_or_log([&] { remove_folder(retire(entry.name)); });
    }
  });
}

std::optional<Checkpoint> CheckpointStore::newest_intact(std::int64_t every) const {
  std::vector<Entry> candidates = entries();
  std::erase_if(candidates, [&](const Entry& entry) { return entry.step % every != 0; });
  for (const Entry& entry : candidates) {
    try {
      Checkpoint checkpoint(options_.folder + "/" + entry.name);
      SMOE_CHECK(checkpoint.manifest().step == entry.step, checkpoint.path(),
                 ": must have the step in its name; got step ", checkpoint.manifest().step);
      checkpoint.verify();
      return checkpoint;
    } catch (const OtherVersionError& error) {
      // Intact, so an older checkpoint must not take its place.
      throw SystemError(error.what());
    } catch (const UsageError& error) {
      log_(concat("passing over a damaged checkpoint: ", error.what()));
    }
  }
  SMOE_CHECK(candidates.empty(), options_.folder, ": all ", candidates.size(),
             " checkpoints are damaged; to start again, give the run another name");
  return std::nullopt;
}

/// BLAS and the C library choose kernels by the CPU, so on another one the last bits may differ.
void CheckpointStore::report_processor(const Manifest& manifest,
                                       const CheckpointHeader& expected) const {
  if (manifest.processor.empty() || manifest.processor == expected.processor) return;
  log_(concat("warning: resumed on another ", expected.device == "cpu" ? "CPU" : "GPU",
              ", so results may differ in their last bits: saved on ",
              printable(manifest.processor), "; this is ", expected.processor));
}

std::optional<std::int64_t> CheckpointStore::resume(const std::string& resume,
                                                    const CheckpointHeader& expected,
                                                    const VisitState& visit, const Accept& accept) {
  if (resume == "none") return std::nullopt;
  const bool is_auto = resume == "auto";
  if (is_auto && kind_of(options_.folder) != PathKind::none) remove_unfinished();
  const std::optional<Checkpoint> chosen = is_auto ? newest_intact() : Checkpoint(resume);
  if (!chosen) return std::nullopt;
  accept ? accept(*chosen) : check_same_run(*chosen, expected);
  if (!is_auto) chosen->verify();
  chosen->load(visit);
  log_(concat("resumed from ", chosen->path()));
  report_processor(chosen->manifest(), expected);
  return chosen->manifest().step;
}

}  // namespace smoe
