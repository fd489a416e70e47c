// `smoe doctor`: says whether this machine can train, and how well.
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <iostream>
#include <memory>

#include "core/device.h"
#include "kernels/threads.h"
#include "train/commands/arguments.h"
#include "train/commands/commands.h"
#include "train/doctor/kernel_checks.h"
#include "train/doctor/rank_checks.h"
#include "train/doctor/speed_checks.h"
#include "train/doctor/version_checks.h"
#include "train/launch/rank_environment.h"

namespace smoe {
namespace {

struct DoctorFlags {
  std::string device = "auto", folder = ".";
  std::int64_t all_reduce_mib = 1024;
  bool is_json = false;
};

int run_doctor(const DoctorFlags& flags) {
  SMOE_CHECK(flags.all_reduce_mib >= 1, "--all-reduce-mib: must be at least 1; got ",
             flags.all_reduce_mib);
  const Stream stream(select_device(flags.device));
  const StreamGuard guard(stream);
  kernels::cpu::set_num_threads(threads_of(read_rank_environment()));
  Findings findings = check_versions();
  for (const Findings& more : {check_kernels(), check_speed(),
                               check_ranks(flags.all_reduce_mib << 20), check_disk(flags.folder)})
    findings.insert(findings.end(), more.begin(), more.end());
  std::cout << (flags.is_json ? findings_json(findings)
                              : findings_text(findings, ::isatty(STDOUT_FILENO) == 1));
  return worst_of(findings) == Health::red ? 1 : 0;
}

}  // namespace

Command add_doctor_command(CLI::App& app) {
  auto flags = std::make_shared<DoctorFlags>();
  CLI::App* command = app.add_subcommand("doctor", "Check this machine: kernels, speed, disk");
  add_option(*command, "--device", flags->device, "DEVICE", "auto, cuda or cpu");
  add_option(*command, "--folder", flags->folder, "FOLDER", "Folder whose disk is checked");
  add_option(*command, "--all-reduce-mib", flags->all_reduce_mib, "MIB",
             "Size that ranks of this machine all-reduce; less where memory is short");
  command->add_flag("--json", flags->is_json, "Print a JSON array instead of a table");
  command->footer(
      "Prints versions, compares each family of kernels with the CPU's in double precision, "
      "measures\n"
      "GEMMs, copies, an all-reduce among ranks of this machine (over NCCL where it has several\n"
      "GPUs) and the disk. Each line is ok, WARN or FAIL, with what to do. The exit code is 1 if "
      "a\n"
      "line is FAIL.\n"
      "\n"
      "Examples:\n"
      "  smoe doctor\n"
      "  smoe doctor --device cpu --json\n"
      "  smoe doctor --all-reduce-mib 64 --folder /tmp");
  return {command, [flags] { return run_doctor(*flags); }};
}

}  // namespace smoe
