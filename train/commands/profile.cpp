// `smoe profile CONFIG [key.path=value ...]`: measures where the time and memory of a step go.
#include <CLI/CLI.hpp>
#include <iostream>
#include <memory>
#include <optional>

#include "core/base/check.h"
#include "core/device.h"
#include "core/system/file.h"
#include "core/system/folder.h"
#include "train/commands/arguments.h"
#include "train/commands/commands.h"
#include "train/commands/rank_setup.h"
#include "train/profile/measure.h"
#include "train/profile/memory_page.h"
#include "train/profile/profile_files.h"
#include "train/profile/profile_text.h"
#include "train/run_facts.h"

namespace smoe {
namespace {

constexpr std::int64_t kMaxProfileBytes = std::int64_t{1} << 28;

struct ProfileFlags {
  ConfigArguments config;
  ProfileOptions options;
  std::string mode = "auto", ranks = "all", output, against;
  std::optional<std::string> old_json{};
};

ProfileMode mode_of(const std::string& name) {
  if (name == "events") return ProfileMode::events;
  if (name == "cupti") return ProfileMode::cupti;
  SMOE_CHECK(name == "auto", "--mode: must be auto, events or cupti; got ", name);
  return ProfileMode::automatic;
}

ProfiledRanks ranks_of(const std::string& name) {
  if (name == "0") return ProfiledRanks::first;
  SMOE_CHECK(name == "all", "--ranks: must be 0 or all; got ", name);
  return ProfiledRanks::all;
}

std::string folder_of(const ProfileFlags& flags, const Config& config) {
  return flags.output.empty() ? config.run.folder() + "/profile" : flags.output;
}

void write_files(const std::string& folder, const ProfiledRun& run, const ProfileFlags& flags) {
  const Profile& profile = run.profile;
  std::vector<Change> changes;
  if (flags.old_json) changes = changes_since(*flags.old_json, flags.against, profile);
  write_profile(folder, run, changes, flags.against);
  std::cout << profile_text(profile, changes) << "\n"
            << folder << "/profile.html, profile.json and trace.json.gz (for ui.perfetto.dev)\n";
}

int profile_on(Ranks& ranks, const Config& config, const ProfileFlags& flags) {
  const TrainingData training = TrainingData::open(config.data);
  if (ranks.are_several()) ranks.join(run_facts(config, {}, training, {}), device_identity());
  const std::string folder = folder_of(flags, config);
  ProfileOptions options = flags.options;
  if (ranks.is_first())
    options.on_progress = [](const std::string& text) { std::cerr << text << " ...\n"; };
  try {
    const ProfiledRun run = profile_training(config, training, options, ranks.communicator());
    if (ranks.is_first()) write_files(folder, run, flags);
  } catch (const OutOfMemory& error) {
    make_folders(folder);
    std::cerr << write_out_of_memory_page(error, current_stream().device(),
                                          folder + "/out-of-memory.html")
              << "\n";
    throw;
  }
  ranks.leave();
  return 0;
}

int run_profile(ProfileFlags flags) {
  const Config config = flags.config.load();
  flags.options.mode = mode_of(flags.mode);
  flags.options.ranks = ranks_of(flags.ranks);
  if (!flags.against.empty()) {
    flags.old_json = read_file(flags.against, kMaxProfileBytes);
    changes_since(*flags.old_json, flags.against, {});  // refuses another file before the work
    check_is_no_input(folder_of(flags, config) + "/profile.json", {flags.against});
  }
  return run_on_rank(config, [&](Ranks& ranks) { return profile_on(ranks, config, flags); });
}

}  // namespace

Command add_profile_command(CLI::App& app) {
  auto flags = std::make_shared<ProfileFlags>();
  CLI::App* command =
      app.add_subcommand("profile", "Measure where the time and memory of a training step go");
  flags->config.add_to(*command);
  add_option(*command, "--steps", flags->options.steps, "N", "Steps to record");
  add_option(*command, "--warmup", flags->options.warmup, "N", "Steps before them");
  add_option(*command, "--mode", flags->mode, "MODE",
             "How kernels are timed on a GPU: events around launches, cupti for each CUDA\n"
             "kernel, or auto: cupti where it is possible");
  add_option(*command, "--ranks", flags->ranks, "RANKS",
             "Which ranks are recorded: all, or 0 alone, which does not slow down the others;\n"
             "rank 0 writes the report");
  command
      ->add_option("--output", flags->output,
                   "Folder for the results; by default profile/ in the folder of the run")
      ->type_name("FOLDER");
  command
      ->add_option("--against", flags->against,
                   "profile.json of an earlier profile; shows what has changed")
      ->type_name("FILE");
  command->footer(
      "Trains a few steps from initial weights and writes profile.html (open it in a browser),\n"
      "profile.json and trace.json.gz (open it in ui.perfetto.dev): the time of each kernel and "
      "its\n"
      "share of what this device can do, gaps and waits, the memory of a step with the owners of\n"
      "its peak, and what unequal loads of experts cost. No run is changed or resumed.\n"
      "\n"
      "Examples:\n"
      "  smoe profile configs/tiny.yaml\n"
      "  smoe profile configs/tiny.yaml train.recompute=experts --output recompute\n"
      "  smoe profile configs/tiny.yaml --against runs/tiny/profile/profile.json --output new\n"
      "  smoe launch --nproc-per-node 2 profile configs/tiny.yaml train.micro_batch=2");
  return {command, [flags] { return run_profile(*flags); }};
}

}  // namespace smoe
